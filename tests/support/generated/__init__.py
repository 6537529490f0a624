"""Component types, values of them and components over them, drawn at random: for differential tests and fuzzers."""
