"""What a training set, or a lake, is made of: numbers (`measure`), and a page that shows them (`page`)."""
