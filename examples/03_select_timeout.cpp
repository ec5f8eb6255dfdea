// select: wait for whatever comes first, with a time-out, or not at all.
#include <mpg/mpg.hpp>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

using namespace std::chrono_literals;

int main() {
    return mpg::run([] {
        mpg::chan<std::string> fast, slow;
        mpg::chan<void> enough;
        mpg::go([=]() mutable {
            for (int i = 1; i <= 3; ++i) {
                mpg::sleep_for(10ms);
                fast.send("fast " + std::to_string(i));
            }
        });
        mpg::go([=]() mutable {
            // It need not send when nobody wants it any more.
            mpg::sleep_for(200ms);
            mpg::select(mpg::on_send(slow, std::string("slow")), mpg::on_recv(enough));
        });

        for (bool waiting = true; waiting;)
            mpg::select(
                mpg::on_recv(fast, [](std::optional<std::string> s) { std::printf("got %s\n", s->c_str()); }),
                mpg::on_recv(slow, [](std::optional<std::string> s) { std::printf("got %s\n", s->c_str()); }),
                mpg::on_timeout(60ms, [&] {
                    std::printf("nothing for 60 ms: that is enough\n");
                    waiting = false;
                }));
        enough.close();

        // otherwise: do not wait.
        mpg::select(mpg::on_recv(fast, [](std::optional<std::string>) {}),
                    mpg::otherwise([] { std::printf("nothing is ready now\n"); }));
        return 0;
    });
}
