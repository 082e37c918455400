"""Exchange with other systems by their documented interfaces: records come in, scores go out."""
