# The installed package: headers, targets, configuration, version, and the two find modules beside it. It is free of
# absolute paths, so a moved prefix works; and free of the architecture, for it holds headers only.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(mpg_package_dir "${CMAKE_INSTALL_DATADIR}/cmake/mpg")

install(TARGETS mpg mpg_gdb EXPORT mpg_targets FILE_SET HEADERS)
install(EXPORT mpg_targets
    NAMESPACE mpg::
    FILE mpg-targets.cmake
    DESTINATION "${mpg_package_dir}")
# A file of its own: it names OpenSSL's target, which only who asks for the component has.
install(TARGETS mpg_tls EXPORT mpg_tls_targets FILE_SET HEADERS)
install(EXPORT mpg_tls_targets
    NAMESPACE mpg::
    FILE mpg-tls-targets.cmake
    DESTINATION "${mpg_package_dir}")

configure_package_config_file(cmake/mpg-config.cmake.in mpg-config.cmake
    INSTALL_DESTINATION "${mpg_package_dir}"
    NO_SET_AND_CHECK_MACRO)
# Below 1.0 a new minor version may break its users.
set(compatibility SameMinorVersion)
if(PROJECT_VERSION_MAJOR GREATER 0)
    set(compatibility SameMajorVersion)
endif()
write_basic_package_version_file(mpg-config-version.cmake
    COMPATIBILITY ${compatibility}
    ARCH_INDEPENDENT)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/mpg-config.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/mpg-config-version.cmake"
    cmake/Findliburing.cmake
    cmake/Findconcurrentqueue.cmake
    cmake/Findlibdw.cmake
    DESTINATION "${mpg_package_dir}")
# Where gdb may load scripts from without being asked: see mpg::gdb. Not GNUInstallDirs' data folder: gdb's is share.
install(FILES tools/gdb/mpg.py DESTINATION share/gdb/auto-load/mpg)
install(FILES tools/lldb/mpg.py tools/lldb/mpg_threads.py DESTINATION "${CMAKE_INSTALL_DATADIR}/mpg/lldb")
install(PROGRAMS tools/bpftrace/leaks.bt tools/bpftrace/offcpu.bt tools/bpftrace/runqlat.bt tools/bpftrace/slices.bt
    tools/bpftrace/slow.bt tools/bpftrace/steals.bt DESTINATION "${CMAKE_INSTALL_DATADIR}/mpg/bpftrace")
install(FILES tools/bpftrace/README.md DESTINATION "${CMAKE_INSTALL_DATADIR}/mpg/bpftrace")
