# plots.gnuplot - the pictures of `make plots`: gnuplot -e "data='FOLDER'; picture='NAME'; out='FILE'" plots.gnuplot

set terminal svg noenhanced size 960,400 dynamic background rgb 'white' font 'sans-serif,13'
set output out

# Colours that everybody can tell apart (Okabe and Ito)
set linetype 1 lc rgb '#0072b2' lw 2.5 pt 7 ps 0.6
set linetype 2 lc rgb '#56b4e9' lw 2 pt 5 ps 0.6
set linetype 3 lc rgb '#d55e00' lw 2 pt 9 ps 0.7
set linetype 4 lc rgb '#e69f00' lw 2 pt 11 ps 0.7
set linetype 5 lc rgb '#cc79a7' lw 2 pt 13 ps 0.8
set linetype 6 lc rgb '#009e73' lw 2 pt 3 ps 0.7
set grid ytics lc rgb '#dddddd' lt 1 lw 1
set border 3 lc rgb '#666666'
set tics nomirror out
# Below, where there are no lines and no bars
set key outside bottom center horizontal maxrows 1 reverse Left samplen 2

# Three panels of a cost against the number of entries. The axis is as long as the sizes that were measured.
if (picture eq 'core' || picture eq 'sql') {
  core = picture eq 'core'
  array titles[3] = ['insert, ns', 'get, ns', 'image out, ns an entry']
  array files[3]
  array peers[3]
  do for [i = 1:3] { peers[i] = core ? 'uthash' : 'native table' }
  if (core) {
    files[1] = 'bench_core-insert'; files[2] = 'bench_core-get'; files[3] = 'bench_core-imagenothingdead'
    peers[3] = 'memcpy'
  } else {
    files[1] = 'bench_sql-insertonetransaction'; files[2] = 'bench_sql-getautocommit'
    files[3] = 'bench_sql-imageoutanentry'
    peers[3] = 'sqlite3_serialize'
  }
  stats data . '/' . files[1] using 1 nooutput
  set logscale x 10
  # A long axis has room for the powers of ten alone
  round(n) = STATS_max <= 50 * STATS_min || abs(log10(n) - floor(log10(n) + 0.5)) < 0.01
  size(n) = !round(n) ? '' : n < 1e6 ? sprintf('%g k', n / 1e3) : sprintf('%g M', n / 1e6)
  set xlabel 'entries' offset 0, 0.6
  set xrange [STATS_min / 1.5:STATS_max * 1.5]
  set yrange [0:*]
  set offsets 0, 0, graph 0.05, 0
  set bmargin 5
  set multiplot layout 1,3 title (core ? 'The core, one thread, small entries' : 'Through SQL, small entries, :memory:')
  do for [i = 1:3] {
    set title titles[i]
    if (i == 3) { set logscale y 10; set yrange [*:*]; set format y '%g' }
    plot data . '/' . files[i] using 1:2:xtic(size(column(1))) with linespoints lt 1 title 'walmap', \
         '' using 1:3 with linespoints lt 3 title peers[i]
  }
  unset multiplot
}

# Each bar with its figure, for some are too low to be seen
if (picture eq 'scaling') {
  set title 'Two connections in two threads'
  set ylabel 'throughput, of that of one alone'
  set style data histogram
  set style histogram clustered gap 1.5
  set style fill solid 1 noborder
  set boxwidth 0.9
  set yrange [0:2.4<*]
  set ytics 0.5
  set arrow 1 from graph 0, first 2 to graph 1, first 2 nohead lc rgb '#999999' dt 2
  set arrow 2 from graph 0, first 1 to graph 1, first 1 nohead lc rgb '#999999' dt 2
  figure(x) = x < 0.005 ? '<0.01' : sprintf('%.2f', x)
  plot data . '/scaling' using 2:xtic(1) lt 1 title 'two readers', \
       '' using 3 lt 4 title 'two writers, different keys', \
       '' using 4 lt 6 title 'a reader beside a writer', \
       for [i = 2:4] '' using ($0 + (i - 3) / 4.5):i:(figure(column(i))) with labels font ',10' offset 0, 0.5 notitle
}

if (picture eq 'latency') {
  set title 'Times of a reader beside a writer that never rests'
  set logscale y 10
  set ylabel 'us'
  set format y '%g'
  set xlabel 'share of the reads that take no longer'
  set xtics ('50 %%' 0, '90 %%' 1, '99 %%' 2, '99.9 %%' 3, '99.99 %%' 4)
  set xrange [-0.2:4.2]
  set key outside right center vertical maxrows 6
  stats data . '/percentiles' skip 1 using 2 nooutput
  plot for [i = 2:7] data . '/percentiles' using 0:i with linespoints lt i - 1 title columnheader(i)
}

if (picture eq 'shards') {
  set logscale x 2
  set xtics (1, 4, 8, 16, 32, 64)
  set xrange [0.9:75]
  set xlabel 'shards'
  set yrange [0:*]
  array titles[4] = ['two writers to one', 'begin and end a state, ns', 'scan, ns an entry', 'an empty map, bytes']
  set multiplot layout 1,4 title 'What the number of shards brings and costs'
  do for [i = 1:4] {
    set title titles[i]
    plot data . '/shards' using 1:i + 1 with linespoints lt 1 notitle
  }
  unset multiplot
}

if (picture eq 'cache') {
  array files[2] = ['misses-tenth', 'misses-hundredth']
  array titles[2] = ['room for 20,000 of 200,000 keys', 'room for 10,000 of 1,000,000 keys']
  array names[4] = ['walmap, max_entries', 'walmap, max_bytes', 'SIEVE', 'FIFO']
  array colours[4] = ['#0072b2', '#56b4e9', '#e69f00', '#cc79a7']
  set style data histograms
  set style histogram clustered gap 1
  set style fill solid noborder
  set yrange [0:1.3]
  set ytics 0.25
  set ylabel "misses / misses of LRU"
  set xtics rotate by 30 right
  set multiplot layout 1,2 title "Misses of a cache as parts of exact LRU's"
  do for [i = 1:2] {
    set title titles[i]
    plot for [j = 1:4] data . '/' . files[i] using (column(j + 1)):xtic(1) lc rgb colours[j] title names[j], \
      1 with lines lc rgb '#333333' dt 2 title 'LRU'
  }
  unset multiplot
}
