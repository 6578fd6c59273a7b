import unittest

from calendar_tags import Checkout, Refused, tags

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def checkout(**changes):
    values = {"commit": COMMIT, "branch": "main", "default_branch": "main", "commit_seconds": 1796040000, "dirty": False}
    return Checkout(**{**values, **changes})


class CalendarTags(unittest.TestCase):
    def test_the_default_branch_is_latest(self):
        self.assertEqual(tags(checkout()), ["2026.11.30", "2026.11.30-0123456789ab", "latest"])

    def test_another_branch_is_not(self):
        self.assertEqual(tags(checkout(branch="dev"))[-1], "2026.11.30-0123456789ab")
        self.assertNotIn("latest", tags(checkout(branch=None, default_branch=None)))
        self.assertNotIn("latest", tags(checkout(default_branch="trunk")))

    def test_main_is_the_default_where_nobody_says(self):
        self.assertIn("latest", tags(checkout(default_branch=None)))

    def test_what_no_commit_holds_is_refused(self):
        for nothing in [None, checkout(dirty=True)]:
            with self.assertRaises(Refused):
                tags(nothing)


if __name__ == "__main__":
    unittest.main()
