// What of some memory can be reached from all the rest: the mark phase of a conservative collector, over a process that
// stands still. The argument for what is concluded from it stands in prove.hpp.
//
// Groups of memory are in question, each with targets (addresses that lead to it), contents (where it may lead to others)
// and nothing else. Everything else that the process has mapped and written is a root, but for what is said to be dead,
// and so are registers. A word is any eight bytes at any address, and counts by its low 48 bits: so pointers in packed
// structures, and those with a tag in the high bits or in the low ones, are seen.
#pragma once

#include <mpg/debug/stopped_world.hpp>

#include <sys/ioctl.h>

namespace mpg::debug::detail {

class reach {
  public:
    struct span {
        std::uint64_t lo, hi;
    };

    /// groups: how many at most. False: no room.
    bool prepare(arena& memory, std::size_t groups, std::size_t deads) noexcept {
        return targets_.reserve(memory, 4 * groups + 16) && contents_.reserve(memory, 3 * groups + 16) &&
               dead_.reserve(memory, 3 * groups + deads + 64) && reached_.reserve(memory, groups + 1) &&
               todo_.reserve(memory, groups + 1) && (pages_ = memory.make<std::uint8_t>(page_bits / 8)) &&
               (buffer_ = memory.make<std::byte>(buffer_bytes + 16)) && (text_ = memory.make<char>(text_bytes)) &&
               (regions_ = memory.make<page_region>(most_regions));
    }
    void group(std::uint32_t n) noexcept {
        while (reached_.size() <= n) reached_.push(0);
    }
    bool target(std::uint32_t g, std::uint64_t lo, std::uint64_t hi) noexcept { return targets_.push({lo, hi, g}); }
    bool content(std::uint32_t g, std::uint64_t lo, std::uint64_t hi) noexcept {
        return contents_.push({lo, hi, g}) && dead(lo, hi);
    }
    /// No root: nothing there will be read again, or it leads nowhere.
    bool dead(std::uint64_t lo, std::uint64_t hi) noexcept { return lo >= hi || dead_.push({lo, hi}); }

    bool is_reached(std::uint32_t g) noexcept { return reached_[g] != 0; }
    std::uint64_t scanned() const noexcept { return scanned_; }

    /// Marks. Null: done; else why nothing is known.
    const char* run(arena_list<stopped_thread>& threads, std::uint64_t most_bytes) noexcept {
        std::sort(targets_.begin(), targets_.end(), [](const piece& a, const piece& b) { return a.lo < b.lo; });
        for (std::size_t i = 1; i < targets_.size(); ++i)
            if (targets_[i - 1].hi > targets_[i].lo) return "memory of two tasks overlaps";
        std::sort(contents_.begin(), contents_.end(), [](const piece& a, const piece& b) { return a.group < b.group; });
        merge_dead();
        for (piece& t : targets_) note(t);
        most_ = most_bytes;
        for (stopped_thread& t : threads) {
            const std::size_t n = t.registers(buffer_, buffer_bytes);
            if (n == 0) return "the registers of a thread cannot be had";
            look(buffer_, n);
        }
        if (const char* why = roots()) return why;
        while (todo_.size() > 0) {
            const std::uint32_t g = todo_.pop();
            auto it = std::lower_bound(contents_.begin(), contents_.end(), g,
                                       [](const piece& p, std::uint32_t wanted) { return p.group < wanted; });
            for (; it != contents_.end() && it->group == g; ++it)
                look(reinterpret_cast<const std::byte*>(it->lo), it->hi - it->lo);
        }
        return nullptr;
    }

  private:
    struct piece {
        std::uint64_t lo, hi;
        std::uint32_t group;
    };
    struct page_region {
        std::uint64_t start, end, categories;
    };
    static constexpr std::size_t page = 4096, page_bits = 1 << 16, buffer_bytes = 256 << 10, text_bytes = 64 << 10;
    static constexpr std::size_t most_regions = 512, most_keys = 4;
    static constexpr std::uint64_t address_bits = (std::uint64_t{1} << 48) - 1;

    void merge_dead() noexcept {
        std::sort(dead_.begin(), dead_.end(), [](const span& a, const span& b) { return a.lo < b.lo; });
        std::size_t n = 0;
        for (span& s : dead_) {
            if (n > 0 && s.lo <= dead_[n - 1].hi)
                dead_[n - 1].hi = std::max(dead_[n - 1].hi, s.hi);
            else
                dead_[n++] = s;
        }
        dead_.resize(n);
    }
    void note(const piece& t) noexcept {
        for (std::uint64_t p = t.lo / page; p <= (t.hi - 1) / page; ++p) pages_[p % page_bits / 8] |= bit(p);
        for (std::uint64_t p = t.lo >> 32; p <= (t.hi - 1) >> 32; ++p) {
            const auto key = static_cast<std::uint16_t>(p);
            if (std::find(keys_, keys_ + std::min(key_count_, most_keys), key) != keys_ + std::min(key_count_, most_keys)) continue;
            if (key_count_ < most_keys) keys_[key_count_] = key;
            ++key_count_;
        }
    }
    static std::uint8_t bit(std::uint64_t p) noexcept { return static_cast<std::uint8_t>(1u << p % 8); }

    // ---- words

    void look_at(const std::byte* at) noexcept {
        std::uint64_t w;
        std::memcpy(&w, at, 8);
        w &= address_bits;
        const std::uint64_t p = w / page;
        if (!(pages_[p % page_bits / 8] & bit(p))) return;
        auto it = std::upper_bound(targets_.begin(), targets_.end(), w, [](std::uint64_t v, const piece& t) { return v < t.lo; });
        if (it == targets_.begin()) return;
        --it;
        if (w >= it->hi || reached_[it->group]) return;
        reached_[it->group] = 1;
        todo_.push(it->group); // has room for each once
    }
    void look(const std::byte* at, std::size_t n) noexcept {
        scanned_ += n;
        std::size_t i = 0;
        if (key_count_ <= most_keys) {
            // Bits 32 to 47 of a pointer into a target are one of few values: sixteen places at a time.
            using lanes = std::uint16_t __attribute__((vector_size(16)));
            lanes key[most_keys];
            for (std::size_t k = 0; k < most_keys; ++k) key[k] = lanes{} + keys_[std::min(k, key_count_ ? key_count_ - 1 : 0)];
            for (; i + 24 <= n; i += 16) {
                lanes even, odd;
                std::memcpy(&even, at + i + 4, 16);
                std::memcpy(&odd, at + i + 5, 16);
                auto hits = (even == key[0]) | (odd == key[0]) | (even == key[1]) | (odd == key[1]) | (even == key[2]) |
                            (odd == key[2]) | (even == key[3]) | (odd == key[3]);
                std::uint64_t any[2];
                std::memcpy(any, &hits, 16);
                if ((any[0] | any[1]) == 0) continue;
                for (std::size_t k = 0; k < 16; ++k) look_at(at + i + k);
            }
        }
        for (; i + 8 <= n; ++i) look_at(at + i);
    }

    // ---- memory

    const char* roots() noexcept {
        mem_ = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        pagemap_ = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        const int maps = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
        const char* why = mem_ < 0 || pagemap_ < 0 || maps < 0 ? "/proc cannot be read" : all_mappings(maps);
        ::close(maps);
        ::close(pagemap_);
        ::close(mem_);
        return why;
    }
    const char* all_mappings(int maps) noexcept {
        std::size_t have = 0;
        for (;;) {
            const ::ssize_t got = ::read(maps, text_ + have, text_bytes - have);
            if (got < 0) return "/proc cannot be read";
            if (got == 0) return have == 0 ? nullptr : "/proc cannot be understood";
            have += static_cast<std::size_t>(got);
            std::size_t at = 0;
            while (char* end = static_cast<char*>(std::memchr(text_ + at, '\n', have - at))) {
                *end = 0;
                if (const char* why = mapping(text_ + at)) return why;
                at = static_cast<std::size_t>(end - text_) + 1;
            }
            std::memmove(text_, text_ + at, have - at);
            have -= at;
            if (have == text_bytes) return "/proc cannot be understood";
        }
    }
    static bool begins(const char* text, const char* with) noexcept { return std::strncmp(text, with, std::strlen(with)) == 0; }

    const char* mapping(char* line) noexcept {
        char* at;
        const std::uint64_t lo = std::strtoull(line, &at, 16);
        if (*at != '-') return "/proc cannot be understood";
        const std::uint64_t hi = std::strtoull(at + 1, &at, 16);
        if (*at != ' ') return "/proc cannot be understood";
        const bool shared = at[4] == 's';
        ++at;
        for (int field = 0; field < 4 && at; ++field) // permissions, offset, device, inode
            if ((at = std::strchr(at, ' '))) ++at;
        while (at && *at == ' ') ++at;
        const char* name = at ? at : "";
        if (begins(name, "[v")) return nullptr; // the kernel's: vvar, vdso, vsyscall
        if (begins(name, "/[aio]")) return "asynchronous I/O of the kernel may hold addresses";
        if (begins(name, "/secretmem")) return "there is secret memory";
        if (!shared) return written_pages(lo, hi);
        const bool device = begins(name, "/dev/") && !begins(name, "/dev/shm/") && !begins(name, "/dev/zero");
        return read_all(lo, hi, device || begins(name, "anon_inode:"));
    }

    /// Of a private mapping, what the process has written: a page that is still a file's or was never touched holds nothing.
    const char* written_pages(std::uint64_t lo, std::uint64_t hi) noexcept {
        struct {
            std::uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any, returned;
        } ask;
        static_assert(sizeof ask == 96);
        constexpr std::uint64_t file = 4, present = 8, swapped = 16, zero = 32;
        for (std::uint64_t at = lo; at < hi;) { // PAGEMAP_SCAN, Linux 6.7
            ask = {sizeof ask, 0, at, hi, 0, reinterpret_cast<std::uint64_t>(regions_), most_regions, 0, file | zero, file | zero,
                   present | swapped, present};
            const int n = ::ioctl(pagemap_, _IOWR('f', 16, decltype(ask)), &ask);
            if (n < 0) return at == lo ? written_pages_one_by_one(lo, hi) : "the page map cannot be read";
            for (int i = 0; i < n; ++i)
                if (const char* why = read_all(regions_[i].start, regions_[i].end, false)) return why;
            if (ask.walk_end <= at) return "the page map cannot be read";
            at = ask.walk_end;
        }
        return nullptr;
    }
    const char* written_pages_one_by_one(std::uint64_t lo, std::uint64_t hi) noexcept {
        auto* entries = reinterpret_cast<std::uint64_t*>(regions_);
        constexpr std::size_t most = most_regions * sizeof(page_region) / 8;
        walked_ += (hi - lo) / page;
        if (walked_ > most_walked) return "there is too much address space";
        for (std::uint64_t at = lo; at < hi;) {
            const std::size_t pages = std::min<std::uint64_t>((hi - at) / page, most);
            const ::ssize_t got = ::pread(pagemap_, entries, pages * 8, static_cast<::off_t>(at / page * 8));
            if (got != static_cast<::ssize_t>(pages * 8)) return "the page map cannot be read";
            constexpr std::uint64_t present = std::uint64_t{1} << 63, swapped = std::uint64_t{1} << 62, file = std::uint64_t{1} << 61;
            for (std::size_t i = 0; i < pages;) {
                std::size_t end = i;
                while (end < pages && (entries[end] & (present | swapped)) && !(entries[end] & file)) ++end;
                if (end > i)
                    if (const char* why = read_all(at + i * page, at + end * page, false)) return why;
                i = end + 1;
            }
            at += pages * page;
        }
        return nullptr;
    }

    /// All of [lo, hi) but what is dead. must: what cannot be read may be more than a hole.
    const char* read_all(std::uint64_t lo, std::uint64_t hi, bool must) noexcept {
        auto it = std::upper_bound(dead_.begin(), dead_.end(), lo, [](std::uint64_t v, const span& s) { return v < s.hi; });
        while (lo < hi) {
            while (it != dead_.end() && it->hi <= lo) ++it;
            const std::uint64_t until = it == dead_.end() ? hi : std::min(hi, std::max(it->lo, lo));
            if (const char* why = read_living(lo, until, must)) return why;
            lo = it == dead_.end() ? hi : std::max(until, std::min(hi, it->hi));
        }
        return nullptr;
    }
    const char* read_living(std::uint64_t lo, std::uint64_t hi, bool must) noexcept {
        std::size_t kept = 0; // the end of the last piece: a word may span two
        while (lo < hi) {
            std::size_t n = std::min<std::uint64_t>(hi - lo, buffer_bytes - kept);
            if ((read_ += n) > most_) return "there is more memory than it may look through";
            ::iovec local{buffer_ + kept, n}, remote{reinterpret_cast<void*>(lo), n};
            ::ssize_t got = ::syscall(SYS_process_vm_readv, ::getpid(), &local, 1ul, &remote, 1ul, 0ul);
            if (got <= 0) { // no permission, as of a page that is protected: this way reads such, too
                n = std::min<std::uint64_t>(hi - lo, page - lo % page);
                got = ::pread(mem_, buffer_ + kept, n, static_cast<::off_t>(lo));
            }
            if (got <= 0) { // a guard, or past the end of a file: nobody reads that
                if (must) return "a mapping of a device cannot be read";
                lo += n;
                kept = 0;
                continue;
            }
            look(buffer_, kept + static_cast<std::size_t>(got));
            const std::size_t have = kept + static_cast<std::size_t>(got);
            kept = std::min<std::size_t>(7, have);
            std::memmove(buffer_, buffer_ + have - kept, kept);
            lo += static_cast<std::uint64_t>(got);
        }
        return nullptr;
    }

    static constexpr std::uint64_t most_walked = std::uint64_t{64} << 30 >> 12; // pages

    arena_list<piece> targets_, contents_;
    arena_list<span> dead_;
    arena_list<std::uint8_t> reached_;
    arena_list<std::uint32_t> todo_;
    std::uint8_t* pages_ = nullptr; // of targets, hashed
    std::byte* buffer_ = nullptr;
    char* text_ = nullptr;
    page_region* regions_ = nullptr;
    std::uint16_t keys_[most_keys] = {};
    std::size_t key_count_ = 0;
    std::uint64_t most_ = 0, read_ = 0, scanned_ = 0, walked_ = 0;
    int mem_ = -1, pagemap_ = -1;
};

} // namespace mpg::debug::detail
