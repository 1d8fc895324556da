"""Networks that look at faces: the large ones of the paper, small ones for small worlds, and how those are trained."""

SMALL_SIZES = (16, 32, 48, 64, 80, 96, 112, 128)        # pixels of the pictures that small networks may see
