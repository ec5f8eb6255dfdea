// From a reader to a writer until the reader's end, without touching the bytes where the system can do that.
//
//   file -> file                        copy_file_range (which may share the blocks)
//   file -> socket, pipe                sendfile
//   socket, pipe -> anything of these   splice, through a pipe
//   whatever the system refuses         a buffer: terminals, files opened for appending, what is no descriptor
#pragma once

#include <mpg/io/kernel_copy.hpp>
#include <mpg/io/result.hpp>
#include <mpg/sched/cancel.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mpg::io {

/// What the kernel can be asked for: it lets copy see its descriptor.
template <class T>
concept has_descriptor = requires(T& t) {
    { descriptor_access::of(t) } -> std::same_as<descriptor*>;
};

template <class T>
concept lends_descriptor = requires(T& t, outcome (*f)(descriptor*)) { descriptor_access::lend(t, nullptr, f); };

/// Reads, with the context where there is one. One that cannot be told of it is at least not begun when it is
/// done.
template <class T> result<std::size_t> read_with(T& t, std::span<std::byte> to, const context* ctx) {
    if constexpr (requires { t.read(to, *ctx); }) {
        if (ctx) return t.read(to, *ctx);
    } else if (auto* source = ctx ? sched::source_of(*ctx) : nullptr; source && source->is_done()) {
        return mpg::unexpected(source->err());
    }
    return t.read(to);
}
/// The same for writing.
template <class T> result<std::size_t> write_with(T& t, std::span<const std::byte> from, const context* ctx) {
    if constexpr (requires { t.write(from, *ctx); }) {
        if (ctx) return t.write(from, *ctx);
    } else if (auto* source = ctx ? sched::source_of(*ctx) : nullptr; source && source->is_done()) {
        return mpg::unexpected(source->err());
    }
    return t.write(from);
}

template <class Writer, class Reader>
result<std::uint64_t> copy_all(Writer& dst, Reader& src, const context* ctx, copy_info& info) {
    info = {};
    if constexpr ((has_descriptor<Writer> || lends_descriptor<Writer>) && has_descriptor<Reader>) {
        descriptor* const from = descriptor_access::of(src);
        if (!from) return mpg::unexpected(make_error_code(errc::closed));
        std::vector<std::byte> rest;
        outcome e = kernel_copy::not_supported;
        const auto run = [&](descriptor* to) {
            return to ? kernel_copy(*to, *from, ctx ? sched::source_of(*ctx) : nullptr).run(info, rest) : kernel_copy::not_supported;
        };
        if constexpr (has_descriptor<Writer>) {
            descriptor* const to = descriptor_access::of(dst);
            if (!to) return mpg::unexpected(make_error_code(errc::closed));
            e = run(to);
        } else {
            const result<outcome> lent = descriptor_access::lend(dst, ctx, run);
            if (!lent) return mpg::unexpected(lent.error());
            e = *lent;
        }
        if (e == 0) return info.bytes;
        if (e != kernel_copy::not_supported) return mpg::unexpected(error_of(e));
        if (!rest.empty()) {
            if (auto n = write_with(dst, std::span<const std::byte>(rest), ctx); !n)
                return mpg::unexpected(n.error());
            info.method = copy_method::buffer;
            info.bytes += rest.size();
        }
    }
    constexpr std::size_t size = 64 << 10;
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
    for (;;) {
        const auto n = read_with(src, std::span<std::byte>(buffer.get(), size), ctx);
        if (!n) return mpg::unexpected(n.error());
        if (*n == 0) return info.bytes;
        if (auto w = write_with(dst, std::span<const std::byte>(buffer.get(), *n), ctx); !w)
            return mpg::unexpected(w.error());
        info.method = copy_method::buffer;
        info.bytes += *n;
    }
}

} // namespace mpg::io

namespace mpg {

using io::copy_info;
using io::copy_method;

/// Copies from src until its end (a read of 0), and returns how many bytes; or the first error of a side,
/// with an unknown part copied. Reader: read(std::span<std::byte>) -> result<std::size_t>, 0 at the end.
/// Writer: write(std::span<const std::byte>) -> result<std::size_t>, all of it or an error. Between sockets,
/// pipes and files the bytes stay in the kernel. Suspends. After Go's io.Copy.
template <class Writer, class Reader> result<std::uint64_t> copy(Writer& dst, Reader& src) {
    copy_info info;
    return io::copy_all(dst, src, nullptr, info);
}
/// With a context, which is given to each read and write.
template <class Writer, class Reader>
result<std::uint64_t> copy(Writer& dst, Reader& src, const context& ctx) {
    copy_info info;
    return io::copy_all(dst, src, &ctx, info);
}
/// Says how it was done, and also when it fails how much has been written.
template <class Writer, class Reader>
result<std::uint64_t> copy(Writer& dst, Reader& src, copy_info& info) {
    return io::copy_all(dst, src, nullptr, info);
}
template <class Writer, class Reader>
result<std::uint64_t> copy(Writer& dst, Reader& src, const context& ctx, copy_info& info) {
    return io::copy_all(dst, src, &ctx, info);
}

} // namespace mpg
