"""What a data set holds, what is wrong with it, and what is odd."""
