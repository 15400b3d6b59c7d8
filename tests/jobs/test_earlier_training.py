from jobs import earlier_training, train_flags


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
