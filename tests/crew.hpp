// Plain threads and tasks that do the same at once.
#pragma once

#include <mpg/sync.hpp>
#include <mpg/task.hpp>

#include <thread>
#include <vector>

namespace mpg::test {

/// From a task: f(index) in `each` plain threads and as many tasks, which begin together; a thread has an even index. Waits for all.
template <class F> void crew(unsigned each, F work) {
    barrier<> begin(2 * each);
    auto f = [&](unsigned index) {
        begin.arrive_and_wait();
        work(index);
    };
    std::vector<std::thread> threads;
    std::vector<task<void>> tasks;
    for (unsigned i = 0; i < each; ++i) {
        threads.emplace_back(f, 2 * i);
        tasks.push_back(spawn(f, 2 * i + 1));
    }
    for (auto& t : tasks) t.join();
    blocking([&] {
        for (auto& t : threads) t.join();
    });
}

} // namespace mpg::test
