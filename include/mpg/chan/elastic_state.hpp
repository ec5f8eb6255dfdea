// The channel behind elastic_chan: a chain of rings, with numbered values.
//
// The values are in a chain of rings, oldest first: receivers take from the first ring, senders put into the
// last one, which is always as large as the present capacity. To grow is to append a larger ring, to shrink
// is to append a smaller one, and a ring that runs empty leaves the chain: no value is ever moved from ring
// to ring, and nothing is allocated, freed or destroyed under the lock. A sender that has to grow makes the
// ring after it has given the lock back, appends it when the channel is still full, and starts over.
//
// The invariants of core.hpp hold with `max` as the capacity, so a sender waits only when `max` values are
// there; with overflow::drop_oldest it never waits.
#pragma once

#include <mpg/chan/core.hpp>
#include <mpg/chan/elastic_core.hpp>
#include <mpg/chan/element.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>

namespace mpg {

/// A value and its number: 0 for the first that the channel accepted, and so on. A gap tells what was
/// dropped.
template <class T> struct elastic_item {
    T value;
    std::uint64_t seq;
};

namespace channels {

template <class T> class elastic_channel final : public elastic_core {
  public:
    using item = elastic_item<T>;
    static_assert(inline_element<T> && std::is_object_v<T>,
                  "mpg: the values of an elastic_chan are moved under its lock, so their move must be "
                  "noexcept and they "
                  "must not be larger than 1 KiB; send others by std::unique_ptr");

    /// A ring of the chain.
    struct ring {
        std::unique_ptr<ring> next;
        std::size_t size, head = 0, count = 0;
        std::unique_ptr<std::byte[]> place;

        explicit ring(std::size_t n)
            : size(n)
            , place(new std::byte[bytes(n)]) {}
        ring(const ring&) = delete;
        ring& operator=(const ring&) = delete;
        ~ring() {
            while (count != 0) drop_first();
            while (next) next = std::move(next->next); // not by recursion
        }
        item& first() noexcept { return at(head); }
        item& free_slot() noexcept { return at((head + count) % size); }
        void drop_first() noexcept {
            std::destroy_at(&at(head));
            head = head + 1 == size ? 0 : head + 1;
            --count;
        }

      private:
        static std::size_t bytes(std::size_t n) {
            if (n > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(item) - alignof(item))
                throw std::length_error("mpg: capacity of channel too large");
            return n * sizeof(item) + alignof(item);
        }
        item& at(std::size_t i) noexcept {
            auto base = reinterpret_cast<std::uintptr_t>(place.get());
            base = (base + alignof(item) - 1) / alignof(item) * alignof(item);
            return reinterpret_cast<item*>(base)[i];
        }
    };
    using ring_ptr = std::unique_ptr<ring>;

    /// What an operation must dispose of after the unlock.
    struct leftovers {
        std::optional<T> dropped;
        ring_ptr emptied;
    };

    elastic_channel(watermarks w, overflow p)
        : elastic_core(w, p)
        , first_(std::make_unique<ring>(w.high))
        , last_(first_.get()) {
        destroy = [](channel_core& c) noexcept { delete static_cast<elastic_channel*>(&c); };
    }

    // The attempts. Precondition: the lock is held.

    enum class offered : std::uint8_t { blocked, done, closed, must_grow };

    /// Builds an item. emit(where, optional) builds its value, see emit_fn.
    template <class Emit> offered offer(Emit emit, chan_waiter*& peer, leftovers& rest) noexcept {
        if (is_closed()) return offered::closed;
        if (!receivers.empty() && (peer = receivers.take())) {
            std::optional<T> value;
            emit(&value, true);
            static_cast<std::optional<item>*>(peer->slot)
                ->emplace(item{std::move(*value), stats_.accepted++});
            peer->ok = true;
            return offered::done;
        }
        if (filled() >= capacity_now()) {
            if (capacity_now() < marks.max) return offered::must_grow;
            if (policy != overflow::drop_oldest) return offered::blocked;
            rest.dropped.emplace(std::move(first_->first().value));
            remove_first(rest);
            ++stats_.dropped;
        }
        append(emit);
        return offered::done;
    }
    /// Precondition: a value is there. True: so few are left that shrink() is due.
    bool take(std::optional<item>& out, chan_waiter*& peer, leftovers& rest) noexcept {
        out.emplace(std::move(first_->first()));
        remove_first(rest);
        if (!senders.empty() && (peer = senders.take())) {
            append([&](void* where, bool optional) noexcept { peer->emit(peer->slot, where, optional); });
            peer->ok = true;
        }
        return few() && capacity_now() > marks.high;
    }

    // Without the lock.

    /// Doubles the capacity if it is still the limit. Throws std::bad_alloc.
    void grow() {
        std::size_t now = capacity_now();
        if (now == marks.max) return;
        auto larger = std::make_unique<ring>(now > marks.max / 2 ? marks.max : now * 2);
        lock.lock();
        if (capacity_now() == now && filled() >= now) {
            install(larger);
            ++stats_.grown;
        }
        lock.unlock();
    }
    /// Goes back to the first capacity if there are still but few values. Stays as it is when there is no
    /// memory.
    void shrink() noexcept {
        ring_ptr smaller, emptied;
        try {
            smaller = std::make_unique<ring>(marks.high);
        } catch (const std::bad_alloc&) {
            return;
        }
        lock.lock();
        if (few() && capacity_now() > marks.high) {
            install(smaller);
            unchain_empty(emptied);
            ++stats_.shrunk;
        }
        lock.unlock();
    }

  private:
    ~elastic_channel() = default;

    bool few() const noexcept { return filled() < std::max<std::size_t>(marks.low, 1); }

    // The chain. first_ is empty only if it is last_, and last_ has room for capacity_now().

    template <class Emit> void append(Emit emit) noexcept {
        item& slot = last_->free_slot();
        emit(static_cast<void*>(std::addressof(slot.value)), false);
        ::new (static_cast<void*>(std::addressof(slot.seq))) std::uint64_t(stats_.accepted++);
        ++last_->count;
        set_filled(filled() + 1);
        stats_.high_water = std::max(stats_.high_water, filled());
    }
    void remove_first(leftovers& rest) noexcept {
        first_->drop_first();
        set_filled(filled() - 1);
        unchain_empty(rest.emptied);
    }
    // A ring behind the first one may be empty too, when it was appended and nothing was put into it since.
    void unchain_empty(ring_ptr& into) noexcept {
        while (first_->count == 0 && first_.get() != last_) {
            ring_ptr gone = std::move(first_);
            first_ = std::move(gone->next);
            gone->next = std::move(into);
            into = std::move(gone);
        }
    }
    void install(ring_ptr& r) noexcept {
        size_now_.store(r->size, std::memory_order_relaxed);
        last_->next = std::move(r);
        last_ = last_->next.get();
    }

    ring_ptr first_; // guarded by lock
    ring* last_;     // guarded by lock
};

} // namespace channels
} // namespace mpg
