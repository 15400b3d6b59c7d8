from pipelines.correction.measure import smallest


def test_of_what_several_attempts_sampled_as_many_count_as_one_would_have_taken() -> None:
    first = {f"{number}".encode(): ("watermark", number) for number in range(1, 9, 2)}
    second = {f"{number}".encode(): ("watermark", number) for number in range(0, 20, 2)}
    clean = {b"clean": ("no defect", 99)}
    assert smallest({**second, **first, **clean}, 5) == {b"0", b"1", b"2", b"3", b"4", b"clean"}
    assert smallest({}, 5) == set()
