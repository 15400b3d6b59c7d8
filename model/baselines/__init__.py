"""Networks and losses of other papers, for comparison with the method: CycleGAN, Pix2Pix, MoNCE."""
