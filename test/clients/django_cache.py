"""ext/adapters/django_cache.py, held against Django's own tests of cache backends; and what these do not look at.

    django_cache.py FOLDER    the folder tests of Django's sources, which Debian's source package has
"""
import multiprocessing
import os
import sys
import tempfile
import threading
import unittest

tests, adapter, walmap = sys.argv[1], os.environ["ADAPTER"], os.environ["WALMAP"]
sys.path[:0] = [tests, os.path.dirname(adapter)]
folder = tempfile.TemporaryDirectory()

from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "cache"],
    ROOT_URLCONF="urls",
    SECRET_KEY="tests",
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=False,
)
import django

django.setup()
from django.core.cache import cache, caches
from django.test import TestCase, override_settings
from django.test.runner import DiscoverRunner

from cache.tests import BaseCacheTests, caches_setting_for_tests
from django_cache import WalmapCache

BACKEND = "django_cache.WalmapCache"


def setting(location, **options):
    """As Django's tests need it: several caches, which differ in their options; all of ours have the library as well."""
    caches = caches_setting_for_tests(BACKEND=BACKEND, LOCATION=location)
    for name, params in caches.items():
        params["OPTIONS"] = {**params.get("OPTIONS", {}), "LIBRARY": walmap, **options}
    return caches


@override_settings(CACHES=setting("django"))
class MapTests(BaseCacheTests, TestCase):
    def test_expiry_is_of_walmap(self):
        cache.set("soon", "gone", 0.1)
        left = threading.Event()
        left.wait(0.2)
        self.assertEqual(cache._call("walmap_len"), 0)

    def test_incr_is_atomic_and_keeps_the_expiry(self):
        cache.set("n", 0, 60)
        before = cache._rows(f"SELECT expires FROM {cache._table}")

        def count():
            for _ in range(200):
                cache.incr("n")

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(cache.get("n"), 800)
        self.assertEqual(cache._rows(f"SELECT expires FROM {cache._table}"), before)
        cache.set("n", 2**63 - 1)
        self.assertEqual(cache.incr("n"), 2**63)
        self.assertEqual(cache.get("n"), 2**63)

    def test_threads_share_the_map(self):
        cache.set("a", 1)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(caches["default"].get("a")))
        thread.start()
        thread.join()
        self.assertEqual(seen, [1])


def read_in_child(file, queue):
    child = WalmapCache("kept", {"OPTIONS": {"LIBRARY": walmap, "FILE": file}})
    queue.put(child.get("a"))
    child.set("b", "of the child")


def begin_with_others(file, barrier, queue):
    barrier.wait()
    try:
        child = WalmapCache("new", {"OPTIONS": {"LIBRARY": walmap, "FILE": file}})
        child.set(str(os.getpid()), 1)
        queue.put(None)
    except Exception as error:
        queue.put(repr(error))


@override_settings(CACHES=setting("django", FILE=os.path.join(folder.name, "cache.db")))
class FileTests(BaseCacheTests, TestCase):
    def test_processes_share_the_file(self):
        file = os.path.join(folder.name, "shared.db")
        ours = WalmapCache("kept", {"OPTIONS": {"LIBRARY": walmap, "FILE": file}})
        ours.set("a", {"of": "the parent"})
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        child = context.Process(target=read_in_child, args=(file, queue))
        child.start()
        self.assertEqual(queue.get(timeout=60), {"of": "the parent"})
        child.join()
        self.assertEqual(ours.get("b"), "of the child")

    def test_processes_may_begin_together(self):
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        for round in range(50):
            file, barrier = os.path.join(folder.name, f"new{round}.db"), context.Barrier(6)
            children = [context.Process(target=begin_with_others, args=(file, barrier, queue)) for _ in range(6)]
            for child in children:
                child.start()
            self.assertEqual([queue.get() for _ in children], [None] * 6)
            for child in children:
                child.join()


class Runner(DiscoverRunner):
    def build_suite(self, *args, **kwargs):
        loader = unittest.defaultTestLoader
        return unittest.TestSuite(loader.loadTestsFromTestCase(tests) for tests in (MapTests, FileTests))

    def run_suite(self, suite, **kwargs):
        class Result(unittest.TextTestResult):
            def addSuccess(self, test):
                print(f"ok {type(test).__name__}.{test._testMethodName}", flush=True)

        result = unittest.TextTestRunner(resultclass=Result).run(suite)
        for test, _ in result.failures + result.errors:
            print(f"FAILED {test}")
        return result


if __name__ == "__main__":
    sys.exit(Runner(verbosity=1).run_tests([]) > 0)
