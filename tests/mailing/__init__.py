"""Mail in both directions."""
