"""Eyes on the data: the profile of an input, its suspects, and the page that shows both."""
