// Profiles in the format of pprof (github.com/google/pprof, proto/profile.proto), which `go tool pprof` and others read.
#pragma once

#include <mpg/debug/snapshot.hpp>
#include <mpg/debug/symbols.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#if defined(MPG_HAVE_ZLIB)
#include <zlib.h>
#endif

namespace mpg::debug {

/// A stack, and what was counted there: one value for each of the profile's types.
struct profile_sample {
    detail::call_stack stack;
    std::vector<std::int64_t> values;
};

struct profile {
    std::vector<std::pair<std::string, std::string>> types; // "cpu", "nanoseconds"
    std::vector<profile_sample> samples;
    std::string not_shown;  // functions, a regular expression: they are left out with what they call
    std::string usual_type; // of `types`, what to show if nothing is said; "": the last one
    std::pair<std::string, std::string> period_type;
    std::int64_t period = 0;
    std::chrono::system_clock::time_point start{};
    std::chrono::nanoseconds duration{0};
    std::vector<std::string> comments;
};

namespace detail {

/// Protocol buffers, as much as a writer of flat messages needs (a field is a varint, or bytes with a length).
class proto_writer {
  public:
    void number(unsigned field, std::uint64_t v) {
        if (v == 0) return;
        varint(field << 3);
        varint(v);
    }
    void number(unsigned field, std::int64_t v) { number(field, static_cast<std::uint64_t>(v)); }
    void bytes(unsigned field, std::string_view v) {
        varint(field << 3 | 2);
        varint(v.size());
        out_ += v;
    }
    template <class C> void packed(unsigned field, const C& values) {
        proto_writer inner;
        for (auto v : values) inner.varint(static_cast<std::uint64_t>(v));
        bytes(field, inner.out_);
    }
    const std::string& text() const noexcept { return out_; }

  private:
    void varint(std::uint64_t v) {
        for (; v >= 0x80; v >>= 7) out_ += static_cast<char>(v | 0x80);
        out_ += static_cast<char>(v);
    }
    std::string out_;
};

/// Numbers from 1, in order of appearance.
template <class K> class numbering {
  public:
    std::uint64_t operator[](const K& k) {
        auto [it, fresh] = of_.try_emplace(k, of_.size() + 1);
        if (fresh) order_.push_back(&it->first);
        return it->second;
    }
    const std::vector<const K*>& order() const noexcept { return order_; }

  private:
    std::unordered_map<K, std::uint64_t> of_;
    std::vector<const K*> order_;
};

class profile_writer {
  public:
    explicit profile_writer(symbolizer& symbols) : symbols_(symbols) {}

    std::string encode(const profile& p) {
        for (const auto& [type, unit] : p.types) out_.bytes(1, value_type(type, unit));
        for (const profile_sample& s : p.samples) {
            std::vector<std::uint64_t> ids;
            for (std::uint64_t pc : s.stack) ids.push_back(locations_[pc]);
            proto_writer m;
            m.packed(1, ids);
            m.packed(2, s.values);
            out_.bytes(2, m.text());
        }
        modules();
        for (std::size_t i = 0; i < locations_.order().size(); ++i) location_message(i + 1, *locations_.order()[i]);
        for (std::size_t i = 0; i < functions_.order().size(); ++i) function_message(i + 1, *functions_.order()[i]);
        out_.number(7, string(p.not_shown));
        out_.number(9, std::chrono::duration_cast<std::chrono::nanoseconds>(p.start.time_since_epoch()).count());
        out_.number(10, p.duration.count());
        if (!p.period_type.first.empty()) out_.bytes(11, value_type(p.period_type.first, p.period_type.second));
        out_.number(12, p.period);
        for (const std::string& c : p.comments) comments_.push_back(string(c));
        if (!comments_.empty()) out_.packed(13, comments_);
        out_.number(14, string(p.usual_type));
        proto_writer table;
        table.bytes(6, "");
        for (const std::string* s : strings_.order()) table.bytes(6, *s);
        return out_.text() + table.text();
    }

  private:
    std::uint64_t string(const std::string& s) { return s.empty() ? 0 : strings_[s]; }
    std::string value_type(const std::string& type, const std::string& unit) {
        proto_writer m;
        m.number(1, string(type));
        m.number(2, string(unit));
        return m.text();
    }
    void modules() {
        std::uint64_t id = 0;
        for (const module_info& i : symbols_.modules()) {
            proto_writer m;
            m.number(1, ++id);
            m.number(2, i.start);
            m.number(3, i.end);
            m.number(4, i.offset);
            m.number(5, string(i.file));
            for (unsigned known = 7; known <= 10; ++known) m.number(known, std::uint64_t{1}); // we bring the names
            out_.bytes(3, m.text());
        }
    }
    void location_message(std::uint64_t id, std::uint64_t pc) {
        proto_writer m;
        m.number(1, id);
        std::uint64_t module = 0;
        for (const module_info& i : symbols_.modules()) {
            ++module;
            if (pc >= i.start && pc < i.end) m.number(2, module);
        }
        m.number(3, pc);
        for (const location& l : symbols_.at(pc)) {
            std::string name = l.function.empty() ? symbols_.address(pc) : l.function;
            proto_writer line;
            line.number(1, functions_[name + '\0' + l.linkage + '\0' + l.file]);
            line.number(2, std::uint64_t{l.line});
            m.bytes(4, line.text());
        }
        out_.bytes(4, m.text());
    }
    void function_message(std::uint64_t id, const std::string& key) {
        std::size_t a = key.find('\0'), b = key.find('\0', a + 1);
        proto_writer m;
        m.number(1, id);
        m.number(2, string(key.substr(0, a)));
        m.number(3, string(key.substr(a + 1, b - a - 1)));
        m.number(4, string(key.substr(b + 1)));
        out_.bytes(5, m.text());
    }

    symbolizer& symbols_;
    proto_writer out_;
    numbering<std::string> strings_, functions_;
    numbering<std::uint64_t> locations_;
    std::vector<std::uint64_t> comments_;
};

/// As gzip does; without zlib as it is (pprof takes both).
inline std::string gzip(std::string data) {
#if defined(MPG_HAVE_ZLIB)
    ::z_stream z{};
    if (::deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return data;
    std::string out(::deflateBound(&z, static_cast<::uLong>(data.size())), '\0');
    z.next_in = reinterpret_cast<::Bytef*>(data.data());
    z.avail_in = static_cast<::uInt>(data.size());
    z.next_out = reinterpret_cast<::Bytef*>(out.data());
    z.avail_out = static_cast<::uInt>(out.size());
    int rc = ::deflate(&z, Z_FINISH);
    out.resize(z.total_out);
    ::deflateEnd(&z);
    if (rc == Z_STREAM_END) return out;
#endif
    return data;
}

} // namespace detail
} // namespace mpg::debug
