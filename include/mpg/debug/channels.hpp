// Channels that have a name in the metrics.
#pragma once

#include <mpg/chan/handle.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace mpg::debug {

namespace detail {

struct channel_look {
    std::string name;
    std::size_t length = 0, capacity = 0;
    bool closed = false;
    std::uint64_t accepted = 0; // values that went in
    bool elastic = false;       // then the rest is there
    std::size_t high_water = 0;
    std::uint64_t dropped = 0, rejected = 0, grown = 0;
};

class named_channels {
  public:
    static named_channels& instance() {
        static named_channels& n = *new named_channels;
        return n;
    }
    std::uint64_t add(std::function<channel_look()> f) {
        std::lock_guard hold(mutex_);
        all_.emplace(++last_, std::move(f));
        return last_;
    }
    void remove(std::uint64_t id) {
        std::function<channel_look()> gone; // outlives the lock: it may hold the last reference
        std::lock_guard hold(mutex_);
        if (auto it = all_.find(id); it != all_.end()) {
            gone = std::move(it->second);
            all_.erase(it);
        }
    }
    std::vector<channel_look> look() {
        std::lock_guard hold(mutex_);
        std::vector<channel_look> out;
        for (auto& [id, f] : all_) out.push_back(f());
        return out;
    }

  private:
    std::mutex mutex_; // never held over a wait
    std::uint64_t last_ = 0;
    std::map<std::uint64_t, std::function<channel_look()>> all_;
};

} // namespace detail

/// While it lives, a channel stands in the metrics by its name. Move-only; keeps the channel, but does not hinder anybody
/// from closing it.
class [[nodiscard]] named_channel {
  public:
    /// Of channels with one name the figures are added up. Costs the channel's users nothing: channels count what goes in
    /// anyway. What came out is that without the length (and, of an elastic_chan, what was dropped).
    template <class C>
    named_channel(std::string name, C channel)
        : id_(detail::named_channels::instance().add([name = std::move(name), channel = std::move(channel)] {
              detail::channel_look l{name, channel.size(), 0, channel.closed()};
              if constexpr (requires { channel.capacity(); }) l.capacity = channel.capacity();
              if constexpr (requires { channel.stats().accepted; }) {
                  const auto counted = channel.stats();
                  l.elastic = true;
                  l.high_water = counted.high_water;
                  l.accepted = counted.accepted;
                  l.dropped = counted.dropped;
                  l.rejected = counted.rejected;
                  l.grown = counted.grown;
              } else if (const auto* core = channels::access::identity(channel)) {
                  l.accepted = core->accepted.load(std::memory_order_relaxed);
              }
              return l;
          })) {}
    named_channel(named_channel&& o) noexcept : id_(std::exchange(o.id_, 0)) {}
    named_channel& operator=(named_channel&& o) noexcept {
        std::swap(id_, o.id_);
        return *this;
    }
    ~named_channel() {
        if (id_ != 0) detail::named_channels::instance().remove(id_);
    }

  private:
    std::uint64_t id_;
};

} // namespace mpg::debug
