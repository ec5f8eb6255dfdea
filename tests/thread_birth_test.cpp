// While a thread of a runtime is being made (start_thread): a stop waits for it, and nobody else does.
//
// ctest: no-asan pthread_create is replaced here, which is what the sanitizer does
// ctest: no-tsan pthread_create is replaced here, which is what the sanitizer does
#include "support.hpp"

#include <atomic>
#include <dlfcn.h>
#include <pthread.h>
#include <thread>

namespace {

/// The next thread that the caller makes runs, while its maker does not come back until it is let go.
struct birth {
    std::atomic<bool> made{false}, let_go{false};
};
thread_local birth* held = nullptr;

} // namespace

extern "C" int pthread_create(::pthread_t* thread, const ::pthread_attr_t* attr, void* (*start)(void*), void* arg) {
    static const auto real = reinterpret_cast<decltype(&::pthread_create)>(::dlsym(RTLD_NEXT, "pthread_create"));
    const int rc = real(thread, attr, start, arg);
    if (birth* b = std::exchange(held, nullptr)) {
        b->made = true;
        while (!b->let_go) std::this_thread::yield();
    }
    return rc;
}

namespace {

struct with_a_birth : ::testing::Test {
    mpg::runtime rt{mpg::options{.procs = 2}};
    birth b;
    std::atomic<bool> ran{false};
    std::thread maker;

    /// A plain thread starts a task, for which a machine is made; that runs the task.
    void SetUp() override {
        maker = std::thread([this] {
            held = &b;
            rt.go([this] { ran = true; });
        });
        ASSERT_TRUE(mpg::test::eventually([&] { return b.made && ran; }));
    }
    void TearDown() override {
        b.let_go = true;
        maker.join();
    }
};

// Else its thread would never be told to end: the test's own check would find it.
TEST_F(with_a_birth, a_stop_waits_for_a_thread_that_is_being_made) {
    std::thread stops([this] { rt.stop(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50)); // only gives a stop that does not wait the time to be done
    b.let_go = true;
    stops.join();
}

TEST_F(with_a_birth, nobody_else_waits_for_it) {
    EXPECT_GE(rt.stats().threads, 1u); // under the lock that the monitor needs to freeze anybody
}

} // namespace
