"""Learn from what other networks say of the training images, beside their labels."""
