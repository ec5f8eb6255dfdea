// The client of the network benchmarks: one thread, at most one request outstanding on each connection, as
// cheap as a client can be (io_uring: multishot receives into provided buffers, sends submitted in batches,
// one system call a round), so that the server is the bottleneck. It uses nothing of the library under
// measurement.
//
// Two ways to ask:
//   closed   each connection asks again as soon as its answer is there: the highest rate. Its latencies are
//   those of an
//            overloaded server and say little.
//   open     requests fall due at a fixed rate, whatever the server does. A request that is due takes the
//   connection
//            that has been free for longest; while none is, it waits. Its latency counts from the moment when
//            it was due, so that a server that stops for a while pays for all that fell due meanwhile (no
//            coordinated omission), and also those that are never answered count.
// The client says when it was itself the bottleneck: see load_result::client_is_bottleneck().
#pragma once

#include <liburing.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <functional>
#include <new>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace bench {

struct load_plan {
    double rate = 0; // requests that fall due a second; 0: closed
    std::chrono::duration<double> warm_up{0.2}, length{2};
    int special_each = 0;     // every so-manieth request is `special`; 0: none. Its latency is not recorded
    std::string_view special; // as long as the others
    bool spin = false;        // an open client that has a CPU to itself waits without sleeping: to be on time
};

struct load_result {
    double requests = 0, seconds = 0; // answered, in the time that was measured
    double p50_us = 0, p99_us = 0, p999_us = 0, max_us = 0;
    double late_p99_us = 0; // open: from when a request was due and a connection free until it was sent
    double unanswered = 0;  // open: due, and without an answer five seconds after the end
    double client_cpu = 0;  // share of one CPU that the client has used; a spinning one uses it all

    /// Closed: the client had no idle time left while the server had. Open: it could not keep its own time.
    bool client_is_bottleneck(const load_plan& plan, double server_cpu, unsigned server_procs) const {
        if (plan.rate == 0) return client_cpu > 0.95 && server_cpu < 0.9 * server_procs;
        return late_p99_us > 50 && late_p99_us > 0.25 * p99_us;
    }
};

class load {
  public:
    /// `answer`: bytes of the answer to each request.
    load(std::vector<int> connections, std::string_view request, std::size_t answer)
        : connections_(connections.size())
        , request_(request)
        , answer_(answer)
        , buffers_(std::size_t{buffer_count} * buffer_size) {
        for (std::size_t i = 0; i < connections.size(); ++i) connections_[i].fd = connections[i];
        ::io_uring_params parameters{};
        parameters.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE;
        parameters.cq_entries = 16384;
        if (::io_uring_queue_init_params(1024, &ring_, &parameters) != 0)
            throw std::runtime_error("the client needs io_uring");
        const std::size_t bytes = buffer_count * sizeof(::io_uring_buf);
        if (::posix_memalign(reinterpret_cast<void**>(&provided_), 4096, bytes) != 0) throw std::bad_alloc();
        ::io_uring_buf_ring_init(provided_);
        ::io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<std::uint64_t>(provided_);
        registration.ring_entries = buffer_count;
        if (::io_uring_register_buf_ring(&ring_, &registration, 0) != 0) {
            ::io_uring_queue_exit(&ring_);
            std::free(provided_);
            throw std::runtime_error("the client needs io_uring's provided buffers");
        }
        for (unsigned short i = 0; i < buffer_count; ++i) give_back(i);
    }
    load(const load&) = delete;
    load& operator=(const load&) = delete;
    ~load() {
        ::io_uring_queue_exit(&ring_);
        std::free(provided_);
    }

    /// Asks as the plan says. `measured`: called when the warm-up is over, and when the measured time is.
    /// Throws when a connection is closed.
    load_result run(const load_plan& plan, const std::function<void()>& measured) {
        plan_ = plan;
        begin_ = clock::now();
        from_ = begin_ + std::chrono::duration_cast<clock::duration>(plan.warm_up);
        const auto end = from_ + std::chrono::duration_cast<clock::duration>(plan.length);
        due_total_ = static_cast<std::int64_t>(plan.rate * (plan.warm_up + plan.length).count());
        for (std::size_t i = 0; i < connections_.size(); ++i) {
            receive(i);
            free_.push_back(i);
        }
        load_result r;
        bool warm = false;
        double cpu = 0;
        clock::time_point now = begin_, started = begin_;
        while (now < end) {
            if (!warm && now >= from_) {
                warm = true;
                started = now;
                cpu = thread_cpu();
                measured();
            }
            round(now, r);
            now = clock::now();
        }
        measured();
        r.client_cpu = thread_cpu() - cpu;
        r.seconds = std::chrono::duration<double>(now - started).count();
        r.client_cpu /= r.seconds;
        const double requests = r.requests;
        for (const auto give_up = now + std::chrono::seconds(5);
             plan.rate > 0 && now < give_up && !all_answered(); now = clock::now())
            round(now, r);
        r.requests = requests;
        if (plan.rate > 0) count_unanswered(now, r);
        r.p50_us = percentile(latencies_, 0.5);
        r.p99_us = percentile(latencies_, 0.99);
        r.p999_us = percentile(latencies_, 0.999);
        r.max_us = percentile(latencies_, 1);
        r.late_p99_us = percentile(late_, 0.99);
        return r;
    }

  private:
    using clock = std::chrono::steady_clock;
    static constexpr unsigned short buffer_count = 4096;
    static constexpr std::size_t buffer_size = 1024;
    static constexpr std::uint64_t of_send = std::uint64_t{1} << 32;

    struct connection {
        int fd = -1;
        std::size_t missing = 0; // bytes of the answer that it waits for; 0: free
        bool special = false;
        clock::time_point asked; // open: when the request was due
        clock::time_point free_since;
    };

    static double thread_cpu() {
        ::timespec t;
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    }
    static float us(clock::duration d) { return std::chrono::duration<float, std::micro>(d).count(); }
    static double percentile(std::vector<float>& all, double share) {
        if (all.empty()) return 0;
        auto at = all.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(all.size() - 1));
        std::nth_element(all.begin(), at, all.end());
        return *at;
    }

    clock::time_point due(std::int64_t k) const {
        return begin_ +
               std::chrono::nanoseconds(static_cast<std::int64_t>(1e9 * static_cast<double>(k) / plan_.rate));
    }
    bool all_answered() const { return due_next_ == due_total_ && free_.size() == connections_.size(); }

    // Sends what is due and can be sent, waits for an answer or the next request, and takes in what has come.
    void round(clock::time_point now, load_result& r) {
        while (!free_.empty() && (plan_.rate == 0 || (due_next_ < due_total_ && due(due_next_) <= now))) {
            const std::size_t i = free_.front();
            free_.pop_front();
            if (plan_.rate == 0) {
                send(i, now);
            } else {
                const auto asked = due(due_next_++);
                if (asked >= from_) late_.push_back(us(now - std::max(asked, connections_[i].free_since)));
                send(i, asked);
            }
        }
        wait(now);
        now = clock::now();
        unsigned head, seen = 0;
        ::io_uring_cqe* cqe;
        io_uring_for_each_cqe(&ring_, head, cqe) {
            ++seen;
            handle(*cqe, now, r);
        }
        ::io_uring_cq_advance(&ring_, seen);
    }
    void wait(clock::time_point now) {
        if (plan_.rate == 0) {
            ::io_uring_submit_and_wait(&ring_, 1);
        } else if (plan_.spin) {
            ::io_uring_submit_and_get_events(&ring_);
        } else {
            auto left = std::chrono::nanoseconds(std::chrono::milliseconds(1));
            if (due_next_ < due_total_ && !free_.empty())
                left = std::clamp(std::chrono::nanoseconds(due(due_next_) - now), std::chrono::nanoseconds(0),
                                  left);
            ::__kernel_timespec t{0, left.count()};
            ::io_uring_cqe* first = nullptr;
            ::io_uring_submit_and_wait_timeout(&ring_, &first, 1, &t, nullptr);
        }
    }
    // What was due and has no answer yet has waited at least until now.
    void count_unanswered(clock::time_point now, load_result& r) {
        auto count = [&](clock::time_point asked) {
            if (asked < from_) return;
            r.unanswered += 1;
            latencies_.push_back(us(now - asked));
        };
        for (auto& c : connections_)
            if (c.missing != 0) count(c.asked);
        for (; due_next_ < due_total_; ++due_next_) count(due(due_next_));
    }

    void give_back(unsigned short id) {
        ::io_uring_buf_ring_add(provided_, buffers_.data() + id * buffer_size, buffer_size, id,
                                ::io_uring_buf_ring_mask(buffer_count), 0);
        ::io_uring_buf_ring_advance(provided_, 1);
    }
    ::io_uring_sqe* submission(std::uint64_t data) {
        ::io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
        while (!sqe) {
            ::io_uring_submit(&ring_);
            sqe = ::io_uring_get_sqe(&ring_);
        }
        sqe->user_data = data;
        return sqe;
    }
    void receive(std::size_t i) {
        ::io_uring_sqe* sqe = submission(0);
        ::io_uring_prep_recv_multishot(sqe, connections_[i].fd, nullptr, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
        sqe->user_data = i;
    }
    void send(std::size_t i, clock::time_point asked) {
        connection& c = connections_[i];
        c.missing = answer_;
        c.asked = asked;
        c.special = plan_.special_each > 0 && ++sent_ % plan_.special_each == 0;
        const std::string_view line = c.special ? plan_.special : request_;
        ::io_uring_sqe* sqe = submission(0);
        ::io_uring_prep_send(sqe, c.fd, line.data(), line.size(), MSG_NOSIGNAL);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe->user_data = of_send | i;
    }
    void handle(const ::io_uring_cqe& cqe, clock::time_point now, load_result& r) {
        if (cqe.user_data & of_send) throw std::runtime_error("a send of the client failed");
        const std::size_t i = cqe.user_data;
        if (cqe.res == -ENOBUFS) return receive(i);
        if (cqe.res <= 0) throw std::runtime_error("the server has closed a connection");
        give_back(static_cast<unsigned short>(cqe.flags >> IORING_CQE_BUFFER_SHIFT));
        if (!(cqe.flags & IORING_CQE_F_MORE)) receive(i);
        connection& c = connections_[i];
        const auto got = static_cast<std::size_t>(cqe.res);
        if (got > c.missing) throw std::runtime_error("an answer is longer than the first one");
        c.missing -= got;
        if (c.missing != 0) return;
        if (now >= from_) r.requests += 1;
        // Closed: what was asked before the warm-up was over is left out. Open: that is so by when it was
        // due.
        if (c.asked >= from_ && !c.special) latencies_.push_back(us(now - c.asked));
        c.free_since = now;
        free_.push_back(i);
    }

    ::io_uring ring_;
    ::io_uring_buf_ring* provided_ = nullptr;
    std::vector<connection> connections_;
    std::deque<std::size_t>
        free_; // connections that wait for no answer, the one that has been so for longest first
    std::string_view request_;
    std::size_t answer_;
    std::vector<char> buffers_;
    load_plan plan_;
    clock::time_point begin_, from_;            // of the run; of what is recorded
    std::int64_t due_next_ = 0, due_total_ = 0; // open: the request that falls due next; how many do
    std::int64_t sent_ = 0;
    std::vector<float> latencies_, late_;
};

} // namespace bench
