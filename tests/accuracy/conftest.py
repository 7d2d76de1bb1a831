"""The small data set and network of the trainer's tests."""

from tests.train.conftest import tiny as tiny
