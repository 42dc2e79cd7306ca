# ruff: noqa
# mypy: ignore-errors
"""openvino_counts.py MODEL.xml f32|bf16 [ROWS]: where OpenVINO says an export spends its time."""
import sys, time, numpy as np, collections
import openvino as ov
core=ov.Core()
path,mode=sys.argv[1:3]
m=core.read_model(path)
if mode.startswith('keep'):
    pat=mode.split('=')[1].split('|')
    n=0
    for op in m.get_ops():
        if any(op.get_friendly_name().startswith(p) for p in pat) or pat==['']:
            op.get_rt_info()['precise_0']=''; n+=1
    print('marked',n)
c=core.compile_model(m,'CPU',{'INFERENCE_PRECISION_HINT':'bf16' if mode!='f32' else 'f32','PERFORMANCE_HINT':'LATENCY','INFERENCE_NUM_THREADS':2,'PERF_COUNT':'YES'} )
r=c.create_infer_request()
x=np.random.rand(1,256,256,3).astype(np.float32)
for _ in range(8): r.infer([x,np.float32(.5)])
ts=[]
for _ in range(15):
    t=time.perf_counter(); r.infer([x,np.float32(.5)]); ts.append(time.perf_counter()-t)
print('median',np.median(ts)*1e3,'min',min(ts)*1e3)
by=collections.Counter(); cnt=collections.Counter()
for p in r.get_profiling_info():
    k=(p.node_type,p.exec_type); by[k]+=p.real_time.total_seconds()*1e3; cnt[k]+=1
for k,v in by.most_common(14): print(f'{v:8.2f} {cnt[k]:4d}',k)
if len(sys.argv)>3:
    for p in sorted(r.get_profiling_info(),key=lambda p:-p.real_time)[:int(sys.argv[3])]: print(f'{p.real_time.total_seconds()*1e3:7.2f}',p.exec_type,p.node_name[:90])
