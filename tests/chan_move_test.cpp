// Elements with moves that throw, count, take long, or call back; move-only elements; the destructors of
// dropped values.
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <any>
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using namespace std::chrono_literals;

struct broken_move : std::runtime_error {
    broken_move()
        : std::runtime_error("broken move") {}
};

std::atomic<int> alive{0};

// Throws when it is moved while armed; then both objects are as they were.
struct bomb {
    int value;
    bool armed;
    explicit bomb(int v = 0, bool a = false)
        : value(v)
        , armed(a) {
        ++alive;
    }
    bomb(bomb&& o)
        : value(o.value)
        , armed(o.armed) {
        if (armed) throw broken_move();
        o.value = -1;
        ++alive;
    }
    bomb& operator=(bomb&& o) {
        if (o.armed) throw broken_move();
        value = std::exchange(o.value, -1);
        armed = false;
        return *this;
    }
    ~bomb() { --alive; }
};
static_assert(!mpg::channels::inline_element<bomb>);

// Its move throws after a number of moves.
struct fused {
    std::shared_ptr<int> moves_left;
    int value;
    fused(int v, int moves)
        : moves_left(std::make_shared<int>(moves))
        , value(v) {}
    fused(fused&& o)
        : moves_left(o.moves_left)
        , value(o.value) {
        burn();
    }
    fused& operator=(fused&& o) {
        moves_left = o.moves_left;
        value = o.value;
        burn();
        return *this;
    }
    void burn() const {
        if (*moves_left >= 0 && --*moves_left < 0) throw broken_move();
    }
};

struct chan_move : mpg::test::with_procs {
    void SetUp() override { alive = 0; }
    void TearDown() override { EXPECT_EQ(alive, 0); }
};
MPG_TEST_PROCS(chan_move);

TEST(chan_throwing_move, try_send_leaves_channel_and_source) {
    chan<bomb> c(2);
    bomb b(7, true);
    EXPECT_THROW((void)c.try_send(b), broken_move);
    EXPECT_EQ(b.value, 7);
    EXPECT_EQ(c.size(), 0u);
    b.armed = false;
    EXPECT_EQ(c.try_send(b), chan_status::ok);
    EXPECT_EQ(b.value, -1);
    EXPECT_EQ(c.try_send(bomb(8)), chan_status::ok); // both places are still there
    bomb full(9, true);
    EXPECT_EQ(c.try_send(full), chan_status::full); // not moved, so it does not throw
    EXPECT_EQ(full.value, 9);
    EXPECT_EQ(c.recv()->value, 7);
    EXPECT_EQ(c.recv()->value, 8);
}

TEST(chan_throwing_move, timed_out_send_does_not_move) {
    mpg::test::run_with_all_procs([] {
        chan<bomb> full(1), none;
        full.send(bomb(1));
        bomb b(7, true);
        EXPECT_EQ(full.send_for(b, 1ms), chan_status::timeout);
        EXPECT_EQ(none.send_for(b, 1ms), chan_status::timeout);
        EXPECT_EQ(mpg::select(mpg::on_send(none, std::move(b)), mpg::on_timeout(1ms)), 1u);
        EXPECT_EQ(mpg::select(mpg::on_send(full, std::move(b)), mpg::otherwise()), 1u);
        EXPECT_EQ(b.value, 7);
        full.close();
        EXPECT_EQ(full.send_for(b, 1ms), chan_status::closed);
        EXPECT_EQ(b.value, 7);
    });
}

TEST(chan_throwing_move, recv_leaves_the_value_in_the_channel) {
    chan<fused> c(2);
    fused first(1, 2); // one move into the channel, then one out of it that throws
    *first.moves_left = 1;
    fused second(2, 100);
    EXPECT_EQ(c.try_send(first), chan_status::ok);
    EXPECT_EQ(c.try_send(second), chan_status::ok);
    EXPECT_THROW((void)c.recv(), broken_move);
    EXPECT_EQ(c.size(), 2u);
    *first.moves_left = 100;
    EXPECT_EQ(c.recv()->value, 1); // at the front still
    EXPECT_EQ(c.recv()->value, 2);
}

TEST(chan_throwing_move, failed_recv_of_a_closed_channel_can_be_repeated) {
    chan<fused> c(1);
    fused v(1, 1);
    EXPECT_EQ(c.try_send(v), chan_status::ok);
    c.close();
    fused out(0, 100);
    EXPECT_THROW((void)c.try_recv(out), broken_move);
    *v.moves_left = 100;
    EXPECT_EQ(c.try_recv(out), chan_status::ok);
    EXPECT_EQ(out.value, 1);
    EXPECT_EQ(c.try_recv(out), chan_status::closed);
}

TEST_P(chan_move, sender_that_finds_a_receiver_gets_the_exception) {
    run([] {
        chan<bomb> c;
        auto receiver = mpg::spawn([c] { return c.recv()->value; });
        auto other = mpg::spawn([c] { return c.recv()->value; });
        for (int i = 0; i < 100; ++i) mpg::yield();
        bomb b(7, true);
        for (int i = 0; i < 10; ++i) {
            try {
                while (c.try_send(b) != chan_status::ok) mpg::yield();
                ADD_FAILURE() << "no exception";
            } catch (const broken_move&) {
            }
            EXPECT_EQ(b.value, 7);
        }
        b.armed = false;
        EXPECT_EQ(c.send_for(b, 1h), chan_status::ok);
        c.send(bomb(8));
        EXPECT_EQ(receiver.join() + other.join(), 15);
    });
}

TEST_P(chan_move, waiting_sender_gets_the_exception) {
    run([] {
        for (std::size_t cap : {0u, 1u}) {
            chan<bomb> c(cap);
            if (cap) c.send(bomb(1));
            auto failing = mpg::spawn([c] {
                bomb b(7, true);
                EXPECT_THROW((void)c.send_for(b, 1h), broken_move);
                return b.value;
            });
            auto good = mpg::spawn([c] { c.send(bomb(8)); });
            for (int i = 0; i < 50; ++i) mpg::yield();
            auto receiver = mpg::spawn([c] {
                std::vector<int> got;
                while (auto v = c.recv()) got.push_back(v->value);
                return got;
            });
            EXPECT_EQ(failing.join(), 7);
            good.join();
            c.close();
            EXPECT_EQ(receiver.join(), cap ? (std::vector<int>{1, 8}) : std::vector<int>{8});
        }
    });
}

TEST_P(chan_move, select_moves_only_when_chosen) {
    run([] {
        chan<std::unique_ptr<int>> full(1), room(1);
        full.send(nullptr);
        auto a = std::make_unique<int>(1), b = std::make_unique<int>(2);
        EXPECT_EQ(mpg::select(mpg::on_send(full, std::move(a)), mpg::on_send(room, std::move(b))), 1u);
        EXPECT_TRUE(a != nullptr && b == nullptr); // NOLINT
        EXPECT_EQ(mpg::select(mpg::on_send(full, std::move(a)), mpg::on_timeout(1ms)), 1u);
        EXPECT_NE(a, nullptr); // NOLINT
        auto reader = mpg::spawn([full] {
            (void)full.recv();
            return full.recv();
        });
        mpg::select(mpg::on_send(full, std::move(a)));
        EXPECT_EQ(a, nullptr); // NOLINT
        EXPECT_EQ(**reader.join(), 1);
    });
}

TEST_P(chan_move, select_copies_lvalues) {
    run([] {
        chan<std::string> c(2);
        std::string s = "text";
        const std::string k = "const";
        mpg::select(mpg::on_send(c, s));
        mpg::select(mpg::on_send(c, k));
        EXPECT_EQ(s, "text");
        EXPECT_EQ(c.recv(), "text");
        EXPECT_EQ(c.recv(), "const");
    });
}

TEST(chan_elements, exactly_the_moves_that_are_needed) {
    struct counted {
        int* moves;
        explicit counted(int* m)
            : moves(m) {}
        counted(counted&& o) noexcept
            : moves(o.moves) {
            ++*moves;
        }
        counted& operator=(counted&& o) noexcept {
            moves = o.moves;
            ++*moves;
            return *this;
        }
    };
    int moves = 0;
    chan<counted> c(1);
    counted v(&moves);
    EXPECT_EQ(c.try_send(v), chan_status::ok);
    EXPECT_EQ(moves, 1);
    EXPECT_EQ(c.try_send(v), chan_status::full);
    EXPECT_EQ(moves, 1);
    EXPECT_TRUE(c.recv().has_value());
    EXPECT_EQ(moves, 2);
}

TEST(chan_elements, construct_only_types) {
    struct fixed {
        const int v;
        std::unique_ptr<int> p;
    };
    static_assert(!std::is_move_assignable_v<fixed>);
    chan<fixed> c(1);
    c.send(fixed{3, std::make_unique<int>(4)});
    fixed into{0, nullptr};
    EXPECT_EQ(c.try_recv(into), chan_status::ok);
    EXPECT_EQ(*into.p, 4);
}

TEST(chan_elements, large_and_greedy_types) {
    using block = std::array<char, 5000>;
    static_assert(!mpg::channels::inline_element<block>);
    chan<block> c(2);
    block b;
    b.fill('x');
    c.send(b);
    b.fill('y');
    c.send(b);
    EXPECT_EQ((*c.recv())[4999], 'x');
    EXPECT_EQ((*c.recv())[0], 'y');
    chan<std::any> a(1);
    a.send(5);
    EXPECT_EQ(std::any_cast<int>(*a.recv()), 5);
    chan<std::function<int()>> f(1);
    f.send([] { return 6; });
    EXPECT_EQ((*f.recv())(), 6);
    chan<bool> t(2);
    t.send(true);
    t.send(false);
    EXPECT_EQ(t.recv(), std::optional<bool>(true));
    EXPECT_EQ(t.recv(), std::optional<bool>(false));
}

// A value that is dropped may use the library in its destructor, also the channel that it was in.
TEST(chan_elements, dropped_values_may_use_the_channel) {
    struct noisy {
        chan<int> log = nullptr;
        ~noisy() {
            if (log) log.send(1);
        }
        noisy(chan<int> l)
            : log(std::move(l)) {}
        noisy(noisy&&) noexcept = default;
        noisy& operator=(noisy&&) noexcept = default;
    };
    chan<int> log(10);
    {
        chan<noisy> c(4);
        for (int i = 0; i < 3; ++i) c.send(noisy(log));
        EXPECT_EQ(log.size(), 0u);
        mpg::select(mpg::on_recv(c));
        EXPECT_EQ(log.size(), 1u);
        (void)c.recv();
        EXPECT_EQ(log.size(), 2u);
    }
    EXPECT_EQ(log.size(), 3u);
}

// Every form of sending and receiving a type that throws at random: each value arrives once, or its exception
// came.
TEST_P(chan_move, throwing_moves_under_stress) {
    run([] {
        for (std::size_t cap : {0u, 1u, 3u, 16u}) {
            chan<bomb> c(cap);
            std::atomic<long> sent{0}, got{0}, count{0};
            std::atomic<int> left{4};
            std::vector<mpg::task<void>> tasks;
            for (int s = 0; s < 4; ++s)
                tasks.push_back(mpg::spawn([&, s] {
                    for (int i = 0; i < 400; ++i) {
                        bomb b(s * 400 + i, i % 5 == 0);
                        for (int kind = i;; ++kind) try {
                                bool ok =
                                    kind % 4 == 0   ? c.try_send(b) == chan_status::ok
                                    : kind % 4 == 1 ? c.send_for(b, 20us) == chan_status::ok
                                    : kind % 4 == 2
                                        ? mpg::select(mpg::on_send(c, std::move(b)), mpg::on_timeout(20us)) ==
                                              0
                                        : mpg::select(mpg::on_send(c, std::move(b)), mpg::otherwise()) == 0;
                                if (ok) break;
                                mpg::yield();
                            } catch (const broken_move&) {
                                EXPECT_EQ(b.value, s * 400 + i);
                                b.armed = false;
                            }
                        sent += s * 400 + i;
                    }
                    if (--left == 0) c.close();
                }));
            for (int r = 0; r < 3; ++r)
                tasks.push_back(mpg::spawn([&, r] {
                    bomb b;
                    for (int kind = r;; ++kind) {
                        chan_status s = chan_status::ok;
                        if (kind % 3 == 0) {
                            auto v = c.recv();
                            if (!v) return;
                            b.value = v->value;
                        } else if ((s = kind % 3 == 1 ? c.recv_for(b, 10us) : c.try_recv(b)) ==
                                   chan_status::closed) {
                            return;
                        }
                        if (s != chan_status::ok) {
                            mpg::yield();
                            continue;
                        }
                        got += b.value;
                        ++count;
                    }
                }));
            for (auto& t : tasks) t.join();
            EXPECT_EQ(count, 1600);
            EXPECT_EQ(sent, got);
        }
    });
}

// The same with a close at any moment: a value that was sent before is drained, all others stay with their
// senders.
TEST_P(chan_move, throwing_moves_and_a_close) {
    run([] {
        for (std::size_t round = 0; round < mpg::test::scaled(400); ++round) {
            chan<bomb> c(round % 3);
            std::atomic<long> sent{0}, got{0};
            std::vector<mpg::task<void>> tasks;
            for (int s = 0; s < 3; ++s)
                tasks.push_back(mpg::spawn([&, s] {
                    for (int i = 1;; ++i) {
                        bomb b(i, (i + s) % 4 == 0);
                        try {
                            if (s == 0 && c.send_for(b, 1h) == chan_status::closed) return;
                            if (s == 1) mpg::select(mpg::on_send(c, std::move(b)));
                            if (s == 2) c.send(bomb(i));
                            sent += i;
                        } catch (const broken_move&) {
                            EXPECT_EQ(b.value, i);
                        } catch (const mpg::channel_closed&) {
                            return;
                        }
                    }
                }));
            for (int r = 0; r < 2; ++r)
                tasks.push_back(mpg::spawn([&, r] {
                    bomb b;
                    for (;;) {
                        if (r == 0) {
                            auto v = c.recv();
                            if (!v) return;
                            got += v->value;
                        } else {
                            if (c.recv_for(b, 1h) != chan_status::ok) return;
                            got += b.value;
                        }
                    }
                }));
            for (std::size_t i = 0; i < round % 40; ++i) mpg::yield();
            c.close();
            for (auto& t : tasks) t.join();
            EXPECT_EQ(sent, got);
        }
    });
}

} // namespace
