// Tasks: start them, wait for them, get their results and their exceptions.
#include <mpg/mpg.hpp>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

int main() {
    // run() starts a runtime, runs this function as its first task, and stops when it returns.
    return mpg::run([] {
        // go: start and forget. A wait group tells when they have all ended.
        mpg::wait_group done;
        for (int i = 1; i <= 3; ++i) done.go([i] { std::printf("hello from task %d\n", i); });
        done.wait();

        // spawn: start, and join for the result. A hundred thousand tasks are nothing special.
        std::vector<mpg::task<int>> squares;
        for (int i = 0; i < 100'000; ++i) squares.push_back(mpg::spawn([i] { return i % 10 * (i % 10); }));
        long sum = 0;
        for (auto& s : squares) sum += s.join();
        std::printf("sum of the squares: %ld\n", sum);

        // What a spawned task throws, join throws.
        auto fails = mpg::spawn([]() -> int { throw std::runtime_error("no result today"); });
        try {
            fails.join();
        } catch (const std::runtime_error& e) {
            std::printf("the task threw: %s\n", e.what());
        }
        return 0;
    });
}
