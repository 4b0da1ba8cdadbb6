import unittest

from greeting import greet


class Greeting(unittest.TestCase):
    def test_the_path_says_who_is_greeted(self):
        self.assertEqual(greet("Hello", "/"), "Hello, world\n")
        self.assertEqual(greet("Good morning", "/Ada/?x"), "Good morning, Ada\n")


if __name__ == "__main__":
    unittest.main()
