"""Extra commands beside Lightning's fit, validate, test and predict."""
