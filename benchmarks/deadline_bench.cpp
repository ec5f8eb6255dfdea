// What it costs to move a deadline of a socket, beside what a timer costs that is set anew.
#include "support.hpp"

#include <mpg/net.hpp>
#include <mpg/task.hpp>
#include <mpg/time.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace {

using namespace std::chrono_literals;
using mpg::net::tcp_stream;

/// Two ends of a connection, and, if asked for, a task that reads from one of them, in vain.
class connection {
  public:
    explicit connection(bool reads) {
        auto listener = mpg::net::tcp_listener::bind("127.0.0.1:0");
        auto near = tcp_stream::connect(listener->local_endpoint());
        auto far = listener->accept();
        if (!near || !far) std::abort();
        near_ = std::move(*near);
        far_ = std::move(*far);
        if (!reads) return;
        reader_ = mpg::spawn([this] {
            std::byte one;
            (void)near_.read(std::span(&one, 1));
        });
        while (mpg::runtime::current()->stats().tasks_waiting < 1) mpg::yield();
    }
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;
    ~connection() {
        near_.close();
        if (reader_.joinable()) reader_.join();
    }
    tcp_stream& stream() { return near_; }

  private:
    tcp_stream near_, far_;
    mpg::task<void> reader_;
};

/// One iteration: the read deadline of a stream moves by `step`, from a time that nobody will see.
bool moves(const std::string& name, bool reads, mpg::clock::duration step) {
    return bench::operation(
        name, [=] { return std::make_unique<connection>(reads); },
        [=](std::unique_ptr<connection>& c, std::int64_t n, unsigned) {
            auto at = mpg::clock::now() + 10'000h;
            for (std::int64_t k = 0; k < n; ++k) (void)c->stream().set_read_deadline(at += step);
        });
}
const bool idle = moves("net/deadline/nobody_reads", false, 1us);
const bool later = moves("net/deadline/later", true, 1us);
// The first one makes the one who reads look, once it comes to run.
const bool sooner = moves("net/deadline/sooner", true, -1us);

// One iteration: a timer that is due in an hour is set anew.
const bool timer = bench::operation(
    "net/deadline/timer_reset", [] { return mpg::timer(1h); },
    [](mpg::timer& t, std::int64_t n, unsigned) {
        for (std::int64_t k = 0; k < n; ++k) benchmark::DoNotOptimize(t.reset(1h));
    });

} // namespace
