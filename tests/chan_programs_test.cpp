// Small programs of communicating tasks, after those by which Go tests its channels.
//
// ctest: label:concurrent
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <array>
#include <atomic>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::on_recv;
using mpg::on_send;
using mpg::otherwise;
using mpg::recv_chan;
using mpg::send_chan;

struct chan_programs : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_programs);

// A filter for each prime behind the others (test/chan/sieve1.go).
TEST_P(chan_programs, sieve) {
    run([] {
        chan<int> numbers;
        chan<void> stop;
        mpg::go([numbers, stop] {
            bool going = true;
            for (int i = 2; going; ++i)
                mpg::select(on_send(numbers, i), on_recv(stop, [&](bool) { going = false; }));
            numbers.close();
        });
        recv_chan<int> in = numbers;
        std::vector<int> primes;
        for (int k = 0; k < 60; ++k) {
            int prime = *in.recv();
            primes.push_back(prime);
            chan<int> out;
            mpg::go([in, out, prime, stop] {
                bool going = true;
                for (int n : in) {
                    if (n % prime == 0) continue;
                    mpg::select(on_send(out, n), on_recv(stop, [&](bool) { going = false; }));
                    if (!going) break;
                }
                out.close();
            });
            in = out;
        }
        stop.close();
        EXPECT_EQ(primes.front(), 2);
        EXPECT_EQ(primes[24], 97);
        EXPECT_EQ(primes.back(), 281);
    });
}

// Each task waits for its predecessor and then takes a value: order by synchronisation alone
// (test/chan/fifo.go).
TEST_P(chan_programs, fifo_by_a_chain_of_tasks) {
    run([] {
        constexpr int n = 50;
        for (std::size_t cap : {std::size_t{0}, std::size_t{n}}) {
            chan<int> values(cap);
            chan<void> in;
            mpg::go([in] { in.send(); });
            for (int i = 0; i < n; ++i) {
                chan<void> out;
                mpg::go([=] {
                    (void)in.recv();
                    EXPECT_EQ(values.recv(), i);
                    out.send();
                });
                in = out;
            }
            for (int i = 0; i < n; ++i) values.send(i);
            EXPECT_TRUE(in.recv());
        }
    });
}

// A long chain of tasks, each passing on what comes plus one (test/chan/goroutines.go).
TEST_P(chan_programs, long_chain_of_tasks) {
    run([] {
        const int n = static_cast<int>(mpg::test::scaled(10'000));
        chan<int> leftmost;
        recv_chan<int> right = leftmost;
        for (int i = 0; i < n; ++i) {
            chan<int> left;
            mpg::go([right, left] { left.send(*right.recv() + 1); });
            right = left;
        }
        leftmost.send(0);
        EXPECT_EQ(right.recv(), n);
    });
}

// Zeros and ones at random from a select; both come (Go's TestPseudoRandomSend).
TEST_P(chan_programs, random_bits) {
    run([] {
        for (std::size_t cap : {0u, 1u, 5u, 100u}) {
            chan<int> bits(cap);
            std::vector<int> got;
            auto reader = mpg::spawn([&, bits] {
                for (int i = 0; i < 1000; ++i) {
                    mpg::yield();
                    got.push_back(*bits.recv());
                }
            });
            for (int i = 0; i < 1000; ++i) mpg::select(on_send(bits, 0), on_send(bits, 1));
            reader.join();
            int ones = std::accumulate(got.begin(), got.end(), 0);
            EXPECT_GT(ones, 350);
            EXPECT_LT(ones, 650);
        }
    });
}

// Many consumers of one queue, whose results are summed up from another (Go's TestMultiConsumer).
TEST_P(chan_programs, many_consumers) {
    run([] {
        constexpr int workers = 23, items = 20'000;
        constexpr std::array<int, 7> steps{2, 3, 7, 11, 17, 23, 29};
        chan<int> work(workers / 4), results(workers / 2);
        std::atomic<int> left{workers};
        for (int w = 0; w < workers; ++w)
            mpg::go([&, work, results, w] {
                for (int v : work) {
                    if (v % 13 == w % 13) mpg::yield(); // some are slower
                    results.send(v);
                }
                if (--left == 0) results.close();
            });
        long expected = 0;
        for (int i = 0; i < items; ++i) expected += steps[static_cast<std::size_t>(i) % steps.size()];
        mpg::go([work, steps] {
            for (int i = 0; i < items; ++i) work.send(steps[static_cast<std::size_t>(i) % steps.size()]);
            work.close();
        });
        long sum = 0, n = 0;
        for (int v : results) sum += v, ++n;
        EXPECT_EQ(n, items);
        EXPECT_EQ(sum, expected);
    });
}

// One sender selects over four channels; a value must not be sent on two of them (test/chan/doubleselect.go).
TEST_P(chan_programs, no_value_is_sent_twice) {
    run([] {
        constexpr int n = 10'000;
        std::array<chan<int>, 4> lanes;
        chan<int> merged;
        mpg::go([lanes] {
            for (int i = 0; i < n; ++i)
                mpg::select(on_send(lanes[0], i), on_send(lanes[1], i), on_send(lanes[2], i),
                            on_send(lanes[3], i));
            for (auto& c : lanes) c.close();
        });
        std::atomic<int> left{4};
        for (auto& c : lanes)
            mpg::go([&left, c, merged] {
                for (int v : c) merged.send(v);
                if (--left == 0) merged.close();
            });
        std::vector<int> seen(n);
        for (int v : merged) ++seen[static_cast<std::size_t>(v)];
        for (int i = 0; i < n; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], 1) << i;
    });
}

// Non-blocking operations on both ends until they meet (test/chan/nonblock.go).
template <class T> void non_blocking_meets(T value) {
    for (std::size_t cap : {0u, 10u}) {
        chan<T> c(cap);
        chan<void> sync;
        T v{};
        EXPECT_EQ(c.try_recv(v), chan_status::empty);
        auto receiver = mpg::spawn([=] {
            T got = *c.recv();
            EXPECT_EQ(got, value);
            sync.send();
            while (c.try_recv(got) != chan_status::ok) mpg::yield();
            EXPECT_EQ(got, value);
            sync.send();
        });
        T first = value, second = value;
        while (c.try_send(first) != chan_status::ok) mpg::yield();
        (void)sync.recv();
        c.send(second);
        (void)sync.recv();
        receiver.join();
    }
}
TEST_P(chan_programs, non_blocking_meets_blocking) {
    run([] {
        non_blocking_meets<int>(1);
        non_blocking_meets<bool>(true);
        non_blocking_meets<std::string>("hello");
        non_blocking_meets<std::array<long, 40>>({7});
    });
}

// A closed and then drained channel must not look empty to a non-blocking receive (Go's
// TestNonblockRecvRace).
TEST_P(chan_programs, non_blocking_receive_sees_value_or_close) {
    run([] {
        for (int i = 0; i < 1000; ++i) {
            chan<int> c(1);
            c.send(1);
            auto t = mpg::spawn([c] {
                int v = 0;
                return c.try_recv(v);
            });
            c.close();
            (void)c.recv();
            EXPECT_NE(t.join(), chan_status::empty);
        }
    });
}

// One of two selects at least finds a value that is always there (Go's TestNonblockSelectRace).
TEST_P(chan_programs, non_blocking_select_finds_what_is_there) {
    run([] {
        for (int i = 0; i < 500; ++i) {
            chan<int> c1(1), c2(1);
            c1.send(1);
            auto t = mpg::spawn([=] { return mpg::select(on_recv(c1), on_recv(c2), otherwise()); });
            c2.send(1);
            mpg::select(on_recv(c1), otherwise());
            EXPECT_NE(t.join(), 2u);
        }
    });
}

// Four tasks over four channels, half by plain operations and half by selects (Go's TestSelectStress).
TEST_P(chan_programs, select_and_plain_operations_mixed) {
    run([] {
        constexpr int n = 1000;
        std::array<chan<int>, 4> c{chan<int>(), chan<int>(), chan<int>(2), chan<int>(3)};
        std::vector<mpg::task<void>> tasks;
        for (auto& one : c) {
            tasks.push_back(mpg::spawn([one] {
                for (int i = 0; i < n; ++i) one.send(0);
            }));
            tasks.push_back(mpg::spawn([one] {
                for (int i = 0; i < n; ++i) (void)one.recv();
            }));
        }
        tasks.push_back(mpg::spawn([c]() mutable {
            std::array<int, 4> count{};
            for (int i = 0; i < 4 * n; ++i)
                mpg::select(on_send(c[3], 0,
                                    [&] {
                                        if (++count[3] == n) c[3] = nullptr;
                                    }),
                            on_send(c[2], 0,
                                    [&] {
                                        if (++count[2] == n) c[2] = nullptr;
                                    }),
                            on_send(c[0], 0,
                                    [&] {
                                        if (++count[0] == n) c[0] = nullptr;
                                    }),
                            on_send(c[1], 0, [&] {
                                if (++count[1] == n) c[1] = nullptr;
                            }));
        }));
        tasks.push_back(mpg::spawn([c]() mutable {
            std::array<int, 4> count{};
            auto took = [&](std::size_t i) {
                if (++count[i] == n) c[i] = nullptr;
            };
            for (int i = 0; i < 4 * n; ++i)
                mpg::select(on_recv(c[0], [&](auto) { took(0); }), on_recv(c[1], [&](auto) { took(1); }),
                            on_recv(c[2], [&](auto) { took(2); }), on_recv(c[3], [&](auto) { took(3); }));
        }));
        for (auto& t : tasks) t.join();
        for (auto& one : c) EXPECT_EQ(one.size(), 0u);
    });
}

// A select in which one channel stands twice, and its waiters are left behind often (Go's
// TestSelectDuplicateChannel).
TEST_P(chan_programs, duplicate_channel_with_others_waiting) {
    run([] {
        chan<int> c, d, e;
        auto selecting = mpg::spawn([=] {
            for (int i = 0; i < 300; ++i) mpg::select(on_recv(c), on_recv(c), on_recv(d));
            e.send(9);
        });
        auto plain = mpg::spawn([=] { (void)c.recv(); });
        for (int i = 0; i < 300; ++i) mpg::select(on_send(d, 7), on_send(d, 8));
        EXPECT_EQ(e.recv(), 9);
        c.send(8); // must wake the plain receiver, and it is the only one left
        plain.join();
        selecting.join();
    });
}

// Power series as streams of coefficients: exp(x) is its own integral plus 1, and exp(x) * exp(-x) = 1
// (test/chan/powser1.go).
struct fraction {
    long n = 0, d = 1;
    static fraction of(long n, long d) {
        long g = std::gcd(n, d);
        return {n / g, d / g};
    }
    friend fraction operator+(fraction a, fraction b) { return of(a.n * b.d + b.n * a.d, a.d * b.d); }
    friend fraction operator*(fraction a, fraction b) { return of(a.n * b.n, a.d * b.d); }
    bool operator==(const fraction&) const = default;
};
using series = chan<fraction>;

// Sends value unless the whole is over.
bool put(const series& s, fraction value, const chan<void>& over) {
    return mpg::select(on_send(s, value), on_recv(over)) == 0;
}
series exponential(long factor, chan<void> over) {
    series out;
    mpg::go([=] {
        fraction term{1, 1};
        for (long k = 1; put(out, term, over); ++k) term = term * fraction::of(factor, k);
    });
    return out;
}
series multiply(series a, series b, chan<void> over) {
    series out;
    mpg::go([=] {
        std::vector<fraction> left, right;
        for (bool going = true; going;) {
            mpg::select(on_recv(a, [&](auto v) { left.push_back(*v); }),
                        on_recv(over, [&](bool) { going = false; }));
            if (!going) return;
            mpg::select(on_recv(b, [&](auto v) { right.push_back(*v); }),
                        on_recv(over, [&](bool) { going = false; }));
            if (!going) return;
            fraction sum;
            for (std::size_t i = 0; i < left.size(); ++i) sum = sum + left[i] * right[left.size() - 1 - i];
            going = put(out, sum, over);
        }
    });
    return out;
}
TEST_P(chan_programs, power_series) {
    run([] {
        chan<void> over;
        series one = multiply(exponential(1, over), exponential(-1, over), over);
        series e2 = multiply(exponential(1, over), exponential(1, over), over);
        fraction power{1, 1};
        for (long k = 0; k < 9; ++k) {
            EXPECT_EQ(one.recv(), (fraction{k == 0 ? 1 : 0, 1}));
            EXPECT_EQ(e2.recv(), power); // exp(2x): 2^k / k!
            power = power * fraction::of(2, k + 1);
        }
        over.close();
    });
}

} // namespace
