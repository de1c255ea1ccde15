"""The programs that tests run against: pinned as Go modules, built on first use."""
