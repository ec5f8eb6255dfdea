// A select over cases that are decided at run time.
#pragma once

#include <mpg/chan/select_case.hpp>
#include <mpg/chan/wait_many.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace mpg {

/// As many cases as run time decides, in the order in which they are added; wait() may be called again with
/// the same cases. The set owns copies of the handles, values and handlers. A value that can be copied is
/// sent anew each time its case is chosen; one that can only be moved is sent once, and its case is then
/// never ready again.
///
/// Not to be used by two strands at once. Adding allocates; wait() does not, but for what a copy of a value
/// takes.
class select_set {
  public:
    select_set() = default;
    select_set(select_set&&) = default;
    select_set& operator=(select_set&&) = default;

    /// handler: void(std::optional<T>), for a channel of void: void(bool). It may be left out.
    template <channels::receivable Ch, class H = channels::no_handler>
    select_set& recv(Ch ch, H handler = H()) {
        return add<recv_entry<Ch, H>>(std::move(ch), std::move(handler));
    }
    /// handler: void(), may be left out.
    template <channels::sendable Ch, class V, class H = channels::no_handler>
    requires(!channels::case_traits<Ch>::is_void) select_set& send(Ch ch, V&& value, H handler = H()) {
        return add<send_entry<Ch, H>>(std::move(ch), std::forward<V>(value), std::move(handler));
    }
    template <channels::sendable Ch, class H = channels::no_handler>
    requires(channels::case_traits<Ch>::is_void) select_set& send(Ch ch, H handler = H()) {
        return add<send_entry<Ch, H>>(std::move(ch), channels::nothing{}, std::move(handler));
    }
    /// Counted from the beginning of each wait().
    template <class H = channels::no_handler> select_set& timeout(base::any_duration d, H handler = H()) {
        return add<plain_entry<channels::timeout_case, H>>(d, std::move(handler));
    }
    template <class H = channels::no_handler, class Context = context>
    select_set& done(const std::type_identity_t<Context>& ctx, H handler = H()) {
        return add<done_entry<Context, H>>(ctx, std::move(handler));
    }
    /// Throws std::logic_error when there is one already.
    template <class H = channels::no_handler> select_set& otherwise(H handler = H()) {
        if (has_otherwise_) throw std::logic_error("mpg: a select has at most one otherwise");
        add<plain_entry<channels::otherwise_case, H>>(std::move(handler));
        has_otherwise_ = true;
        return *this;
    }

    std::size_t size() const noexcept { return entries_.size(); }
    bool empty() const noexcept { return entries_.empty(); }

    /// As select: returns the index of the case that went on, in the order of adding. With no cases it waits
    /// for ever.
    std::size_t wait() {
        if (entries_.empty())
            channels::wait_forever(channels::forever_ops<sched::wait_reason::select_no_cases>);
        if (!has_otherwise_) sched::suspension_point();
        for (auto& e : entries_) e->begin();
        channels::case_table table{cases_.data(), static_cast<std::uint32_t>(cases_.size()), order_.data(),
                                   locks_.data()};
        std::uint32_t chosen = channels::go_on_with_ready(table);
        if (chosen == table.size)
            chosen = channels::many_wait(table, channels::many_ops<sched::wait_reason::select>).run();
        entries_[chosen]->handle();
        return chosen;
    }

  private:
    struct entry {
        virtual ~entry() = default;
        virtual void begin() = 0;
        virtual void handle() = 0;
        virtual channels::select_case& untyped() noexcept = 0;
    };

    template <class Ch, class H> struct recv_entry final : entry {
        channels::recv_case<Ch, H> c;
        recv_entry(Ch ch, H h)
            : c(std::move(ch), std::move(h)) {}
        void begin() override { c.begin(); }
        void handle() override { c.handle(); }
        channels::select_case& untyped() noexcept override { return c; }
    };

    template <class Ch, class H> struct send_entry final : entry {
        using traits = channels::case_traits<Ch>;
        using value_type = typename traits::sent;
        using op = typename traits::template send<value_type&&>;
        Ch ch;
        H handler;
        value_type value;
        std::optional<value_type> staged; // what goes out next; empty after it went
        op c;
        template <class V>
        send_entry(Ch to, V&& v, H h)
            : ch(std::move(to))
            , handler(std::move(h))
            , value(std::forward<V>(v))
            , c(traits::core(ch), nullptr) {}
        void begin() override {
            if constexpr (std::is_copy_constructible_v<value_type>) {
                if (!staged) staged.emplace(value);
                c.retarget(std::addressof(*staged));
            } else {
                c.retarget(std::addressof(value));
            }
        }
        void handle() override {
            if (c.result == channels::outcome::closed) throw channel_closed();
            staged.reset();
            if constexpr (!std::is_copy_constructible_v<value_type>) c.core = nullptr;
            std::invoke(handler);
        }
        channels::select_case& untyped() noexcept override { return c; }
    };

    template <class Base, class H> struct plain_entry final : entry {
        channels::plain_case<Base, H> c;
        template <class... A>
        explicit plain_entry(A&&... a)
            : c(std::forward<A>(a)...) {}
        void begin() override {}
        void handle() override { c.handle(); }
        channels::select_case& untyped() noexcept override { return c; }
    };

    // Keeps a copy of the context: its source lives as long.
    template <class Context, class H> struct done_entry final : entry {
        Context ctx;
        channels::plain_case<channels::done_case, H> c;
        done_entry(const Context& from, H h)
            : ctx(from)
            , c(sched::source_of(ctx), std::move(h)) {}
        void begin() override {}
        void handle() override { c.handle(); }
        channels::select_case& untyped() noexcept override { return c; }
    };

    template <class E, class... A> select_set& add(A&&... a) {
        auto made = std::make_unique<E>(std::forward<A>(a)...);
        std::size_t n = entries_.size() + 1;
        order_.resize(n);
        locks_.resize(n);
        cases_.reserve(n);
        entries_.push_back(std::move(made));
        cases_.push_back(&entries_.back()->untyped());
        return *this;
    }

    std::vector<std::unique_ptr<entry>> entries_;
    std::vector<channels::select_case*> cases_;
    std::vector<std::uint32_t> order_;           // scratch of the engine
    std::vector<channels::channel_core*> locks_; // scratch of the engine
    bool has_otherwise_ = false;
};

} // namespace mpg
