"""The second scenario: what a guest does with the world outside of it. Its own actions, model and player."""
