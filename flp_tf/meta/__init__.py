"""The outer loop: meta-training through whole lifetimes (paper, section 4.1)."""
