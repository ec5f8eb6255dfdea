#pragma once

#include <cstdint>
#include <mpg/chan.hpp>
#include <mpg/runtime.hpp>
#include <mpg/task.hpp>

/// What each image (the executable, a shared object) offers to the others.
struct part {
    /// The running strand as this image sees it: the address of the record behind its thread-local.
    const void* (*strand)();
    std::uint64_t (*task_id)();
    mpg::runtime* (*runtime)();
    /// Starts a task of this image's code that adds one to every number on its way from `in` to `out`.
    void (*increment)(mpg::recv_chan<int> in, mpg::send_chan<int> out);
    /// Suspends the calling task in this image's code.
    void (*yield)();
    /// Throws channel_closed from this image's code.
    void (*send_on_closed)();
    /// A task-local of the caller, read by this image.
    int (*read)(mpg::task_local<int>& local);
};

extern "C" {
[[gnu::visibility("default")]] const part* left_part();
[[gnu::visibility("default")]] const part* right_part();
}
