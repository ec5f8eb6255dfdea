// The model checker itself: it must find what the memory model allows, and nothing else.
//
// ctest: no-asan the stacks of abandoned fibers stay poisoned; there is one thread, and nothing is freed early
// ctest: no-tsan there is one thread
#include <mpg/base/atomic.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace {

using namespace mpg::model;
using mpg::base::atomic;
constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto seq_cst = std::memory_order_seq_cst;

/// What two threads may read in one program.
template <class State> std::set<std::pair<int, int>> outcomes() {
    std::set<std::pair<int, int>> seen;
    auto r = explore([&](program& p) {
        auto s = std::make_shared<State>();
        p.thread([s] { s->one(); });
        p.thread([s] { s->two(); });
        p.finally([s, &seen] { seen.emplace(s->a, s->b); });
    });
    EXPECT_TRUE(r.complete) << r.message;
    return seen;
}
using set = std::set<std::pair<int, int>>;

template <std::memory_order Store, std::memory_order Load, bool Fence> struct store_buffer {
    atomic<int> x{0}, y{0};
    int a = -1, b = -1;
    void one() {
        x.store(1, Store);
        if (Fence) mpg::base::fence(seq_cst);
        a = y.load(Load);
    }
    void two() {
        y.store(1, Store);
        if (Fence) mpg::base::fence(seq_cst);
        b = x.load(Load);
    }
};

TEST(model_checker, a_store_may_be_passed_by_a_load) {
    EXPECT_EQ((outcomes<store_buffer<relaxed, relaxed, false>>()), (set{{0, 0}, {0, 1}, {1, 0}, {1, 1}}));
    EXPECT_EQ((outcomes<store_buffer<release, acquire, false>>()), (set{{0, 0}, {0, 1}, {1, 0}, {1, 1}}));
}
TEST(model_checker, but_not_through_two_fences_or_sequential_consistency) {
    EXPECT_EQ((outcomes<store_buffer<relaxed, relaxed, true>>()), (set{{0, 1}, {1, 0}, {1, 1}}));
    EXPECT_EQ((outcomes<store_buffer<seq_cst, seq_cst, false>>()), (set{{0, 1}, {1, 0}, {1, 1}}));
}

template <std::memory_order Store, std::memory_order Load> struct message_passing {
    atomic<int> data{0}, flag{0};
    int a = -1, b = -1;
    void one() {
        data.store(1, relaxed);
        flag.store(1, Store);
    }
    void two() {
        a = flag.load(Load);
        b = data.load(relaxed);
    }
};

TEST(model_checker, a_message_needs_release_and_acquire) {
    const set weak{{0, 0}, {0, 1}, {1, 0}, {1, 1}}, strong{{0, 0}, {0, 1}, {1, 1}};
    EXPECT_EQ((outcomes<message_passing<relaxed, acquire>>()), weak);
    EXPECT_EQ((outcomes<message_passing<release, relaxed>>()), weak);
    EXPECT_EQ((outcomes<message_passing<release, acquire>>()), strong);
}

struct by_fences {
    atomic<int> data{0}, flag{0};
    int a = -1, b = -1;
    void one() {
        data.store(1, relaxed);
        mpg::base::fence(release);
        flag.store(1, relaxed);
    }
    void two() {
        a = flag.load(relaxed);
        mpg::base::fence(acquire);
        b = data.load(relaxed);
    }
};
TEST(model_checker, fences_carry_messages_too) {
    EXPECT_EQ(outcomes<by_fences>(), (set{{0, 0}, {0, 1}, {1, 1}}));
}

struct one_location {
    atomic<int> x{0};
    int a = -1, b = -1;
    void one() {
        x.store(1, relaxed);
        x.store(2, relaxed);
    }
    void two() {
        a = x.load(relaxed);
        b = x.load(relaxed);
    }
};
TEST(model_checker, a_location_never_goes_back) {
    EXPECT_EQ(outcomes<one_location>(), (set{{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 2}}));
}

struct counter {
    atomic<int> x{0};
    int a = -1, b = -1;
    void one() { a = x.fetch_add(1, relaxed); }
    void two() {
        b = 0;
        while (!x.compare_exchange_weak(b, b + 1, relaxed)) {}
    }
};
TEST(model_checker, read_modify_writes_lose_nothing) { EXPECT_EQ(outcomes<counter>(), (set{{0, 1}, {1, 0}})); }

TEST(model_checker, a_release_sequence_goes_through_read_modify_writes) {
    auto r = explore([](program& p) {
        struct state {
            plain<int> data{0};
            atomic<int> flag{0};
        };
        auto s = std::make_shared<state>();
        p.thread([s] {
            s->data = 1;
            s->flag.store(1, release);
        });
        p.thread([s] { s->flag.fetch_add(1, relaxed); });
        p.thread([s] {
            if (s->flag.load(acquire) == 2) require(s->data == 1, "the data came along");
        });
    });
    // flag == 2 without the store: not possible. 1 + 1, or 0 + 1 and then 1: the value 2 has seen the release.
    EXPECT_TRUE(r.complete) << r.message;
}

TEST(model_checker, four_threads_agree_on_an_order_only_with_sequential_consistency) {
    auto program_with = [](std::memory_order store, std::memory_order load) {
        return [=](program& p) {
            struct state {
                atomic<int> x{0}, y{0};
                int a = 0, b = 0, c = 0, d = 0;
            };
            auto s = std::make_shared<state>();
            p.thread([=] { s->x.store(1, store); });
            p.thread([=] { s->y.store(1, store); });
            p.thread([=] {
                s->a = s->x.load(load);
                s->b = s->y.load(load);
            });
            p.thread([=] {
                s->c = s->y.load(load);
                s->d = s->x.load(load);
            });
            p.finally([=] { require(!(s->a && !s->b && s->c && !s->d), "both readers saw one order"); });
        };
    };
    EXPECT_TRUE(explore(program_with(release, acquire)).failed);
    auto r = explore(program_with(seq_cst, seq_cst));
    EXPECT_TRUE(r.complete) << r.message;
}

TEST(model_checker, finds_data_races) {
    auto with = [](std::memory_order store) {
        return explore([=](program& p) {
            struct state {
                plain<int> data{0};
                atomic<int> flag{0};
            };
            auto s = std::make_shared<state>();
            p.thread([=] {
                s->data = 1;
                s->flag.store(1, store);
            });
            p.thread([=] {
                if (s->flag.load(acquire) == 1) require(s->data == 1, "the data came along");
            });
        });
    };
    EXPECT_TRUE(with(release).complete);
    EXPECT_NE(with(relaxed).message.find("data race"), std::string::npos);
}

TEST(model_checker, finds_deadlocks) {
    auto r = explore([](program& p) {
        struct state {
            mutex a, b;
        };
        auto s = std::make_shared<state>();
        p.thread([=] {
            std::scoped_lock one(s->a);
            s->b.lock();
            s->b.unlock();
        });
        p.thread([=] {
            std::scoped_lock one(s->b);
            s->a.lock();
            s->a.unlock();
        });
    });
    EXPECT_NE(r.message.find("deadlock"), std::string::npos) << r.message;
}

TEST(model_checker, finds_what_is_touched_after_its_end) {
    auto r = explore([](program& p) {
        struct state {
            std::optional<atomic<int>> x{std::in_place, 0};
            atomic<int> flag{0};
        };
        auto s = std::make_shared<state>();
        p.thread([=] {
            s->flag.store(1, release);
            s->x->store(1, relaxed);
        });
        p.thread([=] {
            if (s->flag.load(acquire) == 1) s->x.reset();
        });
    });
    EXPECT_TRUE(r.failed);
}

TEST(model_checker, finds_what_does_not_end) {
    auto r = explore([](program& p) {
        auto x = std::make_shared<atomic<int>>(0);
        p.thread([=] {
            while (x->load(relaxed) != 1) yield();
        });
    });
    EXPECT_TRUE(r.failed);
}

// Sleep sets must leave no outcome out: three threads, each outcome of two counters.
TEST(model_checker, leaves_no_order_out) {
    std::set<std::string> seen;
    auto r = explore([&](program& p) {
        struct state {
            atomic<int> turn{0};
            std::string order = "...";
        };
        auto s = std::make_shared<state>();
        for (int i = 0; i != 3; ++i)
            p.thread([=] { s->order[static_cast<std::size_t>(s->turn.fetch_add(1, relaxed))] = static_cast<char>('a' + i); });
        p.finally([=, &seen] { seen.insert(s->order); });
    });
    EXPECT_TRUE(r.complete);
    EXPECT_EQ(seen.size(), 6u);
    EXPECT_EQ(r.executions, 6u);
}

} // namespace
