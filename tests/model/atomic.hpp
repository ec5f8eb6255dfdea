// mpg::base::atomic, fence and spinlock as the model checker has them: MPG_MODEL_ATOMICS names this header.
#pragma once

#include "explore.hpp"

#include <bit>
#include <cstring>
#include <type_traits>

namespace mpg::base {

/// std::atomic's members, each of which is one step of the program under test.
template <class T> class atomic {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    using order_type = std::memory_order;
    using place = std::source_location;

  public:
    atomic(T value = T()) : loc_(model::explorer::current().new_location(pack(value))) {}
    ~atomic() {
        if (model::explorer::active()) model::explorer::current().destroy(loc_);
    }
    atomic(const atomic&) = delete;
    atomic& operator=(const atomic&) = delete;

    T load(order_type o = std::memory_order_seq_cst, place p = place::current()) const {
        return unpack(model::explorer::current().load(loc_, o, p));
    }
    void store(T v, order_type o = std::memory_order_seq_cst, place p = place::current()) {
        model::explorer::current().store(loc_, pack(v), o, p);
    }
    T exchange(T v, order_type o = std::memory_order_seq_cst, place p = place::current()) {
        return unpack(model::explorer::current().rmw(loc_, o, p, [&](std::uint64_t) { return pack(v); }));
    }
    bool compare_exchange_strong(T& expected, T desired, order_type success, order_type failure,
                                 place p = place::current()) {
        std::uint64_t old = pack(expected);
        bool won = model::explorer::current().exchange_if(loc_, old, pack(desired), success, failure, p);
        expected = unpack(old);
        return won;
    }
    bool compare_exchange_strong(T& expected, T desired, order_type o = std::memory_order_seq_cst,
                                 place p = place::current()) {
        return compare_exchange_strong(expected, desired, o, on_failure(o), p);
    }
    bool compare_exchange_weak(T& expected, T desired, order_type success, order_type failure,
                               place p = place::current()) {
        return compare_exchange_strong(expected, desired, success, failure, p);
    }
    bool compare_exchange_weak(T& expected, T desired, order_type o = std::memory_order_seq_cst,
                               place p = place::current()) {
        return compare_exchange_strong(expected, desired, o, on_failure(o), p);
    }
    T fetch_add(T v, order_type o = std::memory_order_seq_cst, place p = place::current()) {
        return unpack(model::explorer::current().add(loc_, pack(v), o, p));
    }
    T fetch_sub(T v, order_type o = std::memory_order_seq_cst, place p = place::current()) {
        return unpack(model::explorer::current().add(loc_, ~pack(v) + 1, o, p));
    }
    T fetch_or(T v, order_type o = std::memory_order_seq_cst, place p = place::current()) {
        return change(o, p, [v](T old) { return static_cast<T>(old | v); });
    }
    T fetch_and(T v, order_type o = std::memory_order_seq_cst, place p = place::current()) {
        return change(o, p, [v](T old) { return static_cast<T>(old & v); });
    }

  private:
    static std::uint64_t pack(T v) noexcept {
        std::uint64_t bits = 0;
        std::memcpy(&bits, &v, sizeof v);
        return bits;
    }
    static T unpack(std::uint64_t bits) noexcept {
        T v;
        std::memcpy(&v, &bits, sizeof v);
        return v;
    }
    static order_type on_failure(order_type o) noexcept {
        return o == std::memory_order_acq_rel   ? std::memory_order_acquire
               : o == std::memory_order_release ? std::memory_order_relaxed
                                                : o;
    }
    template <class F> T change(order_type o, place p, F f) {
        return unpack(model::explorer::current().rmw(loc_, o, p, [&](std::uint64_t old) { return pack(f(unpack(old))); }));
    }
    unsigned loc_;
};

/// Who waits for it does not run, so no execution spins.
using spinlock = model::mutex;

inline void fence(std::memory_order order, std::source_location p = std::source_location::current()) {
    model::explorer::current().fence(order, p);
}

} // namespace mpg::base
