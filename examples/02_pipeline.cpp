// Channels: a pipeline of three stages, the middle one with several tasks. Closing a channel ends the stage
// behind it.
#include <mpg/mpg.hpp>

#include <cstdio>

namespace {

mpg::recv_chan<int> count_to(int n) {
    mpg::chan<int> out(16);
    mpg::go([=]() mutable {
        for (int i = 1; i <= n; ++i) out.send(i);
        out.close();
    });
    return out; // who gets it can only receive
}

mpg::recv_chan<int> collatz_lengths(mpg::recv_chan<int> numbers, int workers) {
    mpg::chan<int> out(16);
    mpg::go([=]() mutable {
        mpg::wait_group group;
        for (int w = 0; w < workers; ++w)
            group.go([=]() mutable {
                for (int n : numbers) { // until it is closed and drained
                    int steps = 0;
                    for (long long x = n; x != 1; ++steps) x = x % 2 == 0 ? x / 2 : 3 * x + 1;
                    out.send(steps);
                }
            });
        group.wait();
        out.close();
    });
    return out;
}

} // namespace

int main() {
    return mpg::run([] {
        int longest = 0, seen = 0;
        for (int steps : collatz_lengths(count_to(10'000), 4)) {
            ++seen;
            longest = steps > longest ? steps : longest;
        }
        std::printf("%d numbers, the longest path has %d steps\n", seen, longest);
        return 0;
    });
}
