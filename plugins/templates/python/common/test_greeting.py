import unittest

from greeting import greet


class Greeting(unittest.TestCase):
    def test_everyone_is_greeted_by_name(self):
        self.assertEqual(greet("Hello", "/"), "Hello, world\n")
        self.assertEqual(greet("Hello", "Ada\r\n"), "Hello, Ada\n")
        self.assertEqual(greet("Good morning", "/Ada/?x"), "Good morning, Ada\n")


if __name__ == "__main__":
    unittest.main()
