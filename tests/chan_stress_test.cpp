// Random senders, receivers, selects, closers and threads; every value is counted.
//
// ctest: label:concurrent
// ctest: timeout:300
#include "support.hpp"

#include <mpg/chan.hpp>
#include <mpg/select.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using mpg::chan;
using mpg::chan_status;
using mpg::on_recv;
using mpg::on_send;
using mpg::on_timeout;
using mpg::otherwise;
using namespace std::chrono_literals;

struct chan_stress : mpg::test::with_procs {};
MPG_TEST_PROCS(chan_stress);

template <class T> T make(long v);
template <> long make<long>(long v) { return v; }
template <> std::string make<std::string>(long v) { return std::to_string(v) + std::string(40, '.'); }
template <> std::unique_ptr<long> make<std::unique_ptr<long>>(long v) { return std::make_unique<long>(v); }
long value_of(long v) { return v; }
long value_of(const std::string& v) { return std::stol(v); }
long value_of(const std::unique_ptr<long>& v) { return *v; }

void pause_strand() {
    if (mpg::this_task::inside())
        mpg::yield();
    else
        std::this_thread::yield();
}

// Several channels of T and strands that send and receive on all of them in every form. Checked by sums: what
// left its sender arrived, once.
template <class T> class hammer {
  public:
    explicit hammer(std::size_t per_sender)
        : per_sender_(per_sender) {
        for (std::size_t i = 0; i < c_.size(); ++i) c_[i] = chan<T>(i == 0 ? 0 : i == 1 ? 1 : 5);
    }
    void operator()(int tasks, int threads) {
        senders_ = tasks + threads;
        std::vector<mpg::task<void>> in_tasks;
        std::vector<std::thread> in_threads;
        for (int i = 0; i < tasks; ++i) {
            in_tasks.push_back(mpg::spawn([this, i] { send(i); }));
            in_tasks.push_back(mpg::spawn([this, i] { receive(i); }));
        }
        for (int i = 0; i < threads; ++i) {
            in_threads.emplace_back([this, i] { send(100 + i); });
            in_threads.emplace_back([this, i] { receive(100 + i); });
        }
        for (auto& t : in_tasks) t.join();
        mpg::blocking([&] {
            for (auto& t : in_threads) t.join();
        });
        EXPECT_EQ(sent_, got_);
        EXPECT_EQ(sent_count_, got_count_);
        EXPECT_EQ(sent_count_, static_cast<long>(per_sender_) * (tasks + threads));
        for (auto& c : c_) EXPECT_EQ(c.size(), 0u);
    }

  private:
    static constexpr int id_step = 100'000;

    void send(int id) {
        std::mt19937_64 random(mpg::test::seed() + static_cast<std::uint64_t>(id));
        for (std::size_t i = 0; i < per_sender_; ++i) {
            long n = id * id_step + static_cast<long>(i);
            T v = make<T>(n);
            while (!send_one(random, v)) pause_strand();
            sent_ += n;
            ++sent_count_;
        }
        if (--senders_ == 0)
            for (auto& c : c_) c.close();
    }
    bool send_one(std::mt19937_64& random, T& v) {
        chan<T>& c = c_[random() % c_.size()];
        chan<T>& d = c_[random() % c_.size()]; // may be the same
        auto count = [this](std::optional<T> got) { received(std::move(got)); };
        switch (random() % 8) {
        case 0:
            c.send(std::move(v));
            return true;
        case 1:
            return c.try_send(v) == chan_status::ok;
        case 2:
            return c.send_for(v, std::chrono::microseconds(random() % 50)) == chan_status::ok;
        case 3:
            return mpg::select(on_send(c, std::move(v)), otherwise()) == 0;
        case 4:
            return mpg::select(on_send(c, std::move(v)), on_send(d, std::move(v))) < 2;
        case 5:
            return mpg::select(on_recv(d, count), on_send(c, std::move(v)), on_recv(c, count)) == 1;
        case 6:
            return mpg::select(on_timeout(20us), on_send(c, std::move(v)), on_send(d, std::move(v))) != 0;
        default:
            return mpg::select(on_recv(d, count), on_send(c, std::move(v)), otherwise()) == 1;
        }
    }
    void receive(int id) {
        std::mt19937_64 random(mpg::test::seed() * 3 + static_cast<std::uint64_t>(id));
        std::array<bool, 4> over{};
        T v{};
        while (!(over[0] && over[1] && over[2] && over[3])) {
            std::size_t k = random() % c_.size(), m = random() % c_.size();
            chan<T>& c = c_[k];
            auto end = [&](std::size_t i) {
                return [this, &over, i](std::optional<T> got) {
                    if (!got)
                        over[i] = true;
                    else
                        received(std::move(got));
                };
            };
            chan_status s = chan_status::empty;
            switch (id == 0 ? 5
                            : random() % 6) { // one of them waits for all, so that no two wait for each other
            case 0:
                end(k)(c.recv());
                break;
            case 1:
                s = c.try_recv(v);
                break;
            case 2:
                s = c.recv_for(v, std::chrono::microseconds(random() % 50));
                break;
            case 3:
                mpg::select(on_recv(c, end(k)), on_recv(c_[m], end(m)), on_recv(c, end(k)));
                break;
            case 4:
                mpg::select(on_recv(c, end(k)), on_recv(c_[m], end(m)), otherwise());
                break;
            default: {
                mpg::select_set set;
                for (std::size_t i = 0; i < c_.size(); ++i) set.recv(c_[i], end(i));
                set.timeout(30us).wait();
            }
            }
            if (s == chan_status::ok) received(std::optional<T>(std::move(v)));
            if (s == chan_status::closed) over[k] = true;
            if (s != chan_status::ok) pause_strand();
        }
    }
    void received(std::optional<T> v) {
        ASSERT_TRUE(v);
        got_ += value_of(*v);
        ++got_count_;
    }

    const std::size_t per_sender_;
    std::array<chan<T>, 4> c_;
    std::atomic<int> senders_{0};
    std::atomic<long> sent_{0}, got_{0}, sent_count_{0}, got_count_{0};
};

TEST_P(chan_stress, longs) {
    run([] { hammer<long>(mpg::test::scaled(3000))(6, 0); });
}
TEST_P(chan_stress, strings) {
    run([] { hammer<std::string>(mpg::test::scaled(2000))(5, 0); });
}
TEST_P(chan_stress, move_only_and_threads) {
    run([] { hammer<std::unique_ptr<long>>(mpg::test::scaled(1500))(3, 2); });
}

// A close at any moment: senders learn of it and keep the value, or it arrives.
TEST_P(chan_stress, close_at_any_moment) {
    run([] {
        for (std::size_t round = 0; round < mpg::test::scaled(300); ++round) {
            chan<long> c(round % 4);
            std::atomic<long> sent{0}, got{0};
            std::vector<mpg::task<void>> tasks;
            for (int s = 0; s < 3; ++s)
                tasks.push_back(mpg::spawn([&, s] {
                    try {
                        for (long i = 1;; ++i) {
                            if (s == 0)
                                c.send(i);
                            else if (s == 1)
                                mpg::select(on_send(c, i), on_recv(chan<int>(nullptr)));
                            else if (long v = i; c.send_for(v, 1h) != chan_status::ok)
                                return;
                            sent += i;
                        }
                    } catch (const mpg::channel_closed&) {
                    }
                }));
            for (int r = 0; r < 2; ++r)
                tasks.push_back(mpg::spawn([&, r] {
                    for (bool open = true; open;) {
                        auto take = [&](std::optional<long> v) {
                            open = v.has_value();
                            got += v.value_or(0);
                        };
                        if (r == 0)
                            take(c.recv());
                        else
                            mpg::select(on_recv(c, take), on_recv(c, take));
                    }
                }));
            for (std::size_t i = 0; i < round % 50; ++i) mpg::yield();
            c.close();
            for (auto& t : tasks) t.join();
            EXPECT_EQ(sent, got);
        }
    });
}

// Handles are copied and dropped by all; the last one destroys, with what is left inside.
TEST_P(chan_stress, handles_come_and_go) {
    auto counted = std::make_shared<int>(0);
    run([&] {
        for (std::size_t round = 0; round < mpg::test::scaled(2000); ++round) {
            chan<std::shared_ptr<int>> c(3);
            for (int i = 0; i < 4; ++i)
                mpg::go([c, counted] {
                    auto copy = c;
                    mpg::recv_chan<std::shared_ptr<int>> view = copy;
                    (void)copy.try_send(std::shared_ptr<int>(counted));
                    std::shared_ptr<int> v;
                    if (view.size() > 2) (void)view.try_recv(v);
                });
        }
    });
    EXPECT_EQ(counted.use_count(), 1);
}

} // namespace
