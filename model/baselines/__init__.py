"""Networks and losses of other papers, to compare the method with: CycleGAN, Pix2Pix, MoNCE."""
