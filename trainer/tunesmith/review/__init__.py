"""Human evaluation: blinded sets of answers, a page to rate them on, and what the ratings show."""
