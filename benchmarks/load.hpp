// The client of the network benchmarks: one thread, one request outstanding on each connection, as cheap as a
// client can be (io_uring: multishot receives into provided buffers, sends submitted in batches, one system
// call a round), so that the server is the bottleneck. It uses nothing of the library under measurement.
#pragma once

#include <liburing.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace bench {

struct load_result {
    double requests = 0, seconds = 0, p99_us = 0;
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
        if (::io_uring_queue_init(1024, &ring_, IORING_SETUP_COOP_TASKRUN) != 0)
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

    /// Lets all connections ask for as long as it takes. Throws when one of them is closed.
    load_result run(std::chrono::duration<double> length) {
        const auto begin = clock::now();
        const auto end = begin + std::chrono::duration_cast<clock::duration>(length);
        for (std::size_t i = 0; i < connections_.size(); ++i) {
            receive(i);
            send(i, begin);
        }
        load_result r;
        auto now = begin;
        while (now < end) {
            ::io_uring_submit_and_wait(&ring_, 1);
            now = clock::now();
            unsigned head, seen = 0;
            ::io_uring_cqe* cqe;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++seen;
                handle(*cqe, now, r);
            }
            ::io_uring_cq_advance(&ring_, seen);
        }
        r.seconds = std::chrono::duration<double>(now - begin).count();
        if (!latencies_.empty()) {
            auto at = latencies_.begin() + static_cast<std::ptrdiff_t>(latencies_.size() * 99 / 100);
            std::nth_element(latencies_.begin(), at, latencies_.end());
            r.p99_us = *at;
        }
        return r;
    }

  private:
    using clock = std::chrono::steady_clock;
    static constexpr unsigned short buffer_count = 1024;
    static constexpr std::size_t buffer_size = 2048;
    static constexpr std::uint64_t of_send = std::uint64_t{1} << 32;

    struct connection {
        int fd = -1;
        std::size_t missing = 0;
        clock::time_point asked;
    };

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
    void send(std::size_t i, clock::time_point now) {
        connections_[i].missing = answer_;
        connections_[i].asked = now;
        ::io_uring_sqe* sqe = submission(0);
        ::io_uring_prep_send(sqe, connections_[i].fd, request_.data(), request_.size(), MSG_NOSIGNAL);
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
        r.requests += 1;
        latencies_.push_back(std::chrono::duration<float, std::micro>(now - c.asked).count());
        send(i, now);
    }

    ::io_uring ring_;
    ::io_uring_buf_ring* provided_ = nullptr;
    std::vector<connection> connections_;
    std::string_view request_;
    std::size_t answer_;
    std::vector<char> buffers_;
    std::vector<float> latencies_;
};

} // namespace bench
