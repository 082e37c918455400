"""What will be sold: revenue of months and quarters with ranges, corrected by how past forecasts came out."""
