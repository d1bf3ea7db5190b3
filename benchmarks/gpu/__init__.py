"""The networks that conventional hardware runs, and the rows that are measured of them."""
