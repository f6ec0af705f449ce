"""The mathematics of group-relative policy optimisation, as pure tensor functions."""
