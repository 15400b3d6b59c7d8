from pipelines.correction.same_bytes import Claims, content_key


def test_the_first_has_it_and_has_it_again() -> None:
    claims = Claims()
    assert claims.claim([(b"x", b"1"), (b"x", b"2"), (b"y", b"2")]) == [True, False, True]
    assert claims.claim([(b"x", b"1"), (b"x", b"3")]) == [True, False]


def test_what_is_forgotten_can_be_claimed_anew() -> None:
    claims = Claims(most=2)
    claims.claim([(b"x", b"1"), (b"y", b"1"), (b"z", b"1")])
    assert claims.claim([(b"x", b"2"), (b"z", b"2")]) == [True, False]


def test_an_image_with_other_defects_or_of_another_type_is_another() -> None:
    keys = [
        content_key("1", ["watermark"], "mug"),
        content_key("1", ["watermark"], None),
        content_key("1", ["watermark", "wrong_angle"], "mug"),
        content_key("1", [], "mug"),
    ]
    assert len(set(keys)) == 4
    assert content_key("1", ["watermark"], "mug") == keys[0]
