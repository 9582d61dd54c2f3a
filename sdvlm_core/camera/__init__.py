"""Camera messages -> RgbdFrame: decoding, pairing, bags."""
