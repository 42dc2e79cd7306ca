# ruff: noqa
# mypy: ignore-errors
"""What int8 changes in scores of a detector of paper, one part at a time."""
import sys, time, torch, numpy as np
from pathlib import Path
from subspect.storage import load_detector
from subspect.images import read_image
from subspect.export.formats import _write_openvino
from subspect.export.combinations import ExportOptions
from subspect.export.graph import InspectionGraph, trace
from subspect.export import formats
import openvino as ov
torch.set_num_threads(1)
d=load_detector(Path('calibrated')).eval()
held=[Path(l.strip()) for l in open('held17.txt')]
cal=[Path(l.strip()) for l in open('normal.txt')][5::14]
ims=[read_image(p) for p in held[:5]]
with torch.no_grad():
    from subspect.inspection.prediction import DetectorInspector
    insp=DetectorInspector(d); refs=[insp(i) for i in ims]
rs=[r.score for r in refs]
base=d.exact
parts={'subspace':('low_subspace','high_subspace'),'object':('object_decoder',),'general':('latent_model.decoder',),'detection':('detection',),'upsampling':('upsampling',)}
print('exact', base, 'scores', np.round(rs,4), flush=True)
for name in sys.argv[1:]:
    quantised=name.split('+')
    d.exact=base+sum((v for k,v in parts.items() if k not in quantised),())
    opt=ExportOptions('openvino','int8',None,(),tuple(cal))
    out=Path(f'v_{name}'); out.mkdir(exist_ok=True); t0=time.time()
    with formats._quiet():
        prog=trace(InspectionGraph(d.exportable(),None,opt.picture_size))
        _write_openvino(prog,out/'model.xml',opt,d)
    core=ov.Core(); m=core.compile_model(out/'model.xml','CPU',{'INFERENCE_PRECISION_HINT':'f32','INFERENCE_NUM_THREADS':1})
    ss=[];ts=[];ms=[]
    for i,r in zip(ims,refs):
        t=time.process_time(); o=m({'pixels':i[None],'threshold':np.float32(0.5)}); ts.append(time.process_time()-t)
        got={k.get_any_name():np.asarray(v) for k,v in o.items()}
        ss.append(float(got['score'].reshape(-1)[0])-r.score)
    print(name, 'score diffs', np.round(ss,4), 'time', round(float(np.median(ts)),3), f'({time.time()-t0:.0f} s)', flush=True)
