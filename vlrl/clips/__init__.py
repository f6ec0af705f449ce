"""Short clips with exact tubes: sprites that move over photographs, and sentences about them."""
