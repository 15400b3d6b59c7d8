"""Do the paper's claims hold on real photos? Trains every row of the comparison, and makes docs/study.md's tables."""
