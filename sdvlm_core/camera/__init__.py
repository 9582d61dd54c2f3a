"""What a camera sends -> RgbdFrame: decoding, pairing, bags."""
