from pipelines.correction.same_bytes import Claims, content_key


def test_the_first_has_it_and_has_it_again() -> None:
    claims = Claims()
    assert claims.claim([(b"x", b"1"), (b"x", b"2"), (b"y", b"2")]) == [True, False, True]
    assert claims.claim([(b"x", b"1"), (b"x", b"3")]) == [True, False]


def test_the_older_half_is_forgotten_and_can_be_claimed_anew() -> None:
    claims = Claims(most=4)
    claims.claim([(key, b"1") for key in (b"u", b"v", b"w", b"x", b"y", b"z")])
    assert claims.claim([(b"x", b"2"), (b"z", b"2"), (b"u", b"2"), (b"u", b"3")]) == [
        False,
        False,
        True,
        False,
    ]


def test_an_image_with_other_defects_or_of_another_type_is_another() -> None:
    rows = [
        {"input_sha256": "1", "defects": defects, "product_type": kind}
        for defects in (["watermark"], ["watermark", "wrong_angle"], [])
        for kind in (None, "mug")
    ]
    assert len({content_key(row, by_type=True) for row in [*rows, *rows]}) == 6
    # Unless a gate judges by the type: rows of one id would both write its file.
    assert len({content_key(row, by_type=False) for row in rows}) == 3
