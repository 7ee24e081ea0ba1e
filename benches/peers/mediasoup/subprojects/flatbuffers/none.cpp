/* the real library comes from outside; meson wants an archive to link */ int sluice_bench_flatbuffers_none;
