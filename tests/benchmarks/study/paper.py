"""What the paper reports (Li et al., 2022), on data that nobody else has: never to be compared figure by figure."""

#: FID by row and defect, its Table 3.
FID: dict[str, dict[str, float]] = {
    "proposed": {"non_white_background": 22, "watermark": 20, "wrong_angle": 66},
    "no_group": {"non_white_background": 27, "watermark": 25, "wrong_angle": 70},
    "no_labels": {"non_white_background": 55, "watermark": 89, "wrong_angle": 138},
    "paired_only": {"non_white_background": 43, "watermark": 53, "wrong_angle": 68},
}
