from jobs import earlier_training, train_detector, train_flags


def test_the_cards_command_keeps_only_the_names_of_local_paths() -> None:
    line = [
        "--data",
        "/home/me/first",
        "s3://shop/second",
        "--output=/home/me/run",
        "--init-from",
        "old/bundle",
    ]
    told = earlier_training.portable_command("jobs/train.py", line, train_flags.parser(None).parse_args(line))
    assert told == "python jobs/train.py --data first s3://shop/second --output=run --init-from bundle"


def test_the_card_names_no_path_of_what_a_training_starts_from() -> None:
    line = [
        "--data",
        "s3://shop/shards",
        "--output",
        "s3://shop/run",
        "--encoder-weights",
        "/home/me/weights.pt",
    ]
    args = train_detector.parser().parse_args(line)
    told = earlier_training.portable_command("jobs/train_detector.py", line, args)
    assert told.endswith("--encoder-weights weights.pt")
    line = [*line[:4], "--fid-weights=/home/me/inception.pth"]
    told = earlier_training.portable_command("jobs/train.py", line, train_flags.parser(None).parse_args(line))
    assert told.endswith("--fid-weights=inception.pth")
